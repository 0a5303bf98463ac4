# SPDX-License-Identifier: GPL-2.0-only
#
# gmem: see README.md. "make help" lists the targets.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local
RUNNER := selftests/runner

# make takes a name with a space for two names.
$(foreach path,CURDIR KDIR DESTDIR PREFIX,$(if $(word 2,$($(path))),$(error \
	gmem: make can't work with a space in a path: $(path) is $($(path)))))

all: module library tools ## build module, library and tools for KDIR (default: the running kernel)

module: ## build kernel/gmem.ko for KDIR
	@MAKE="$(MAKE)" kernel/scripts/kbuild $(KDIR) modules

selftests: ## build the kselftests into build/selftests
	@$(RUNNER)/deps
	@$(MAKE) --no-print-directory -C selftests OUT=$(CURDIR)/build/selftests KSELFTEST_DIR=$$($(RUNNER)/harness) all

# The folder of all that is built, except the module.
build:
	@mkdir -p build 2>/dev/null && [ -w build ] || \
		{ echo "gmem: can't write to $(CURDIR)/build: copy the tree, or remove what another user built" >&2; exit 1; }

library: build ## build libgmem into build/libgmem
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem lib

tools: library ## build the tools into build/tools
	@$(MAKE) --no-print-directory -C tools OUT=$(CURDIR)/build/tools \
		LIBGMEM=$(CURDIR)/build/libgmem all

demo: ## boot a virtual machine and show lend, share, trim and reclaim under a KVM guest
	@$(RUNNER)/demo

demo-gunyah: ## on a Gunyah host, as root: boot Linux on lent memory; KERNEL=Image
	@$(RUNNER)/demo gunyah $(KERNEL)

check: ## build with warnings as errors, run all tests; TESTS="..." runs areas or single tests; ends with "N passed, N failed"
	@$(RUNNER)/check $(TESTS)

check-long: ## run the tests that take longer: other kernels, other releases, races, long fuzzing; TESTS="..." runs some of them
	@$(RUNNER)/check --long $(TESTS)

fuzz-long: ## fuzz the module for 30 minutes and print the lines of kernel/ that ran; FUZZ_SECONDS=N, SEED=N
	@$(RUNNER)/fuzz $(or $(FUZZ_SECONDS),1800) $(SEED)

bench: ## compare gmem with KVM's own ways, in a virtual machine; KERNEL=7.2 for another kernel
	@$(RUNNER)/bench $(KERNEL)

bench-gunyah: ## measure the start and the end of a VM under Gunyah, and secret memory
	@$(RUNNER)/bench gunyah

bench-vhost: ## compare vhost-user with bare sockets, QEMU and qemu-storage-daemon
	@selftests/peers/bench/run

pictures: ## draw the pictures of the documentation from what gmemctl prints in its test
	@$(RUNNER)/check gmemctl
	@tools/gmemctl/pictures.py build/check/gmemctl.tap Documentation/pictures

vm: ## boot the virtual machine of the tests with a shell
	@$(RUNNER)/shell

docs: ## make the API reference of libgmem, with doxygen
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem docs

coverage: ## run the library's tests, also in a virtual machine, and print their line coverage
	@$(RUNNER)/deps
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem coverage

tidy: ## clang-tidy over the library (package clang-tidy)
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem tidy

symbols: ## write the list of the kernel symbols that gmem.ko imports on arm64, kernel/abi_gki_aarch64_gmem
	@$(RUNNER)/symbols

style: ## checkpatch, sparse, shellcheck, and a check of the prose
	@$(RUNNER)/style

doc := $(DESTDIR)$(PREFIX)/share/doc/gmem

install: module library tools ## install module, library, tools, headers and documentation below DESTDIR and PREFIX
	@install -d $(DESTDIR)/lib 2>/dev/null && [ -w $(DESTDIR)/lib ] || \
		{ echo "gmem: can't write to $(DESTDIR)/lib: run this as root, or set DESTDIR" >&2; exit 1; }
	@kernel/scripts/kbuild $(KDIR) install $(DESTDIR)
	@install -D -m 644 kernel/60-gmem.rules $(DESTDIR)/usr/lib/udev/rules.d/60-gmem.rules
	@install -D -m 644 kernel/modules-load.conf $(DESTDIR)/usr/lib/modules-load.d/gmem.conf
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem \
		DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) install
	@$(MAKE) --no-print-directory -C tools OUT=$(CURDIR)/build/tools \
		LIBGMEM=$(CURDIR)/build/libgmem DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) install
	@install -D -m 644 -t $(doc) README.md
	@cp -r --no-preserve=all Documentation LICENSES libgmem/example $(doc)/
	@kernel/scripts/after-install $(KDIR) $(DESTDIR)

deb: ## build Debian's packages into build/deb; needs the packages of tools/packaging/debian/control
	@tools/packaging/deb build/deb

sbom: ## write a list of all files and their licences, in the SPDX format; needs the tool reuse
	@reuse --root . spdx -o build/gmem.spdx && echo build/gmem.spdx

clean: ## remove everything that was built in this tree
	@rm -rf build
	@cd kernel && rm -rf *.o *.ko *.mod *.mod.c .*.cmd .tmp_versions modules.order Module.symvers .module-common.o

clean-cache: ## remove downloaded and built kernels
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/gmem"

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done

.PHONY: all build module library selftests tools demo demo-gunyah check check-long fuzz-long bench bench-gunyah bench-vhost pictures vm docs coverage tidy symbols style install deb sbom clean clean-cache help
