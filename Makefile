# SPDX-License-Identifier: GPL-2.0
#
# gmem: see README.md. "make help" lists the targets.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local
RUNNER := selftests/runner

# A kernel with BTF needs pahole to build modules. Leave BTF out if there is no pahole.
NO_BTF := $(if $(shell command -v pahole),,CONFIG_DEBUG_INFO_BTF_MODULES=)

all: module library tools ## build module, library and tools for KDIR (default: the running kernel)

module: ## build kernel/gmem.ko for KDIR
	@[ -d "$(KDIR)" ] || { echo "gmem: no kernel headers in $(KDIR): install linux-headers or set KDIR=" >&2; exit 1; }
	@$(MAKE) --no-print-directory -C $(KDIR) M=$(CURDIR)/kernel $(NO_BTF) modules

selftests: ## build the kselftests into build/selftests
	@$(RUNNER)/deps
	@$(MAKE) --no-print-directory -C selftests OUT=$(CURDIR)/build/selftests KSELFTEST_DIR=$$($(RUNNER)/harness) all

library: ## build libgmem into build/libgmem
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem lib

tools: library ## build the tools into build/tools
	@$(MAKE) --no-print-directory -C tools OUT=$(CURDIR)/build/tools \
		LIBGMEM=$(CURDIR)/build/libgmem all

demo: ## boot a virtual machine and show lend, share, trim and reclaim under a KVM guest
	@$(RUNNER)/demo

check: ## build with warnings as errors, run all tests; TESTS="..." runs areas or single tests; ends with "N passed, N failed"
	@$(RUNNER)/check $(TESTS)

check-long: ## run the tests that take longer: other kernels, other releases, races, long fuzzing; TESTS="..." runs some of them
	@$(RUNNER)/check --long $(TESTS)

bench: ## compare gmem with KVM's own ways, in a virtual machine; KERNEL=7.2 for another kernel
	@$(RUNNER)/bench $(KERNEL)

bench-vhost: ## compare vhost-user with bare sockets, QEMU and qemu-storage-daemon
	@selftests/peers/bench/run

vm: ## boot the virtual machine of the tests with a shell
	@$(RUNNER)/shell

docs: ## make the API reference of libgmem, with doxygen
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem docs

coverage: ## run the library's tests, also in a virtual machine, and print their line coverage
	@$(RUNNER)/deps
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem coverage

tidy: ## clang-tidy over the library (package clang-tidy)
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem tidy

style: ## checkpatch, sparse, shellcheck, and a check of the prose
	@$(RUNNER)/style

install: module library tools ## install module, udev rule, headers, library and tools below DESTDIR and PREFIX
	@$(MAKE) --no-print-directory -C $(KDIR) M=$(CURDIR)/kernel INSTALL_MOD_PATH=$(DESTDIR) modules_install
	install -D -m 644 kernel/60-gmem.rules $(DESTDIR)/usr/lib/udev/rules.d/60-gmem.rules
	@$(MAKE) --no-print-directory -C libgmem OUT=$(CURDIR)/build/libgmem \
		DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) install
	@$(MAKE) --no-print-directory -C tools OUT=$(CURDIR)/build/tools \
		LIBGMEM=$(CURDIR)/build/libgmem DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) install

clean: ## remove everything that was built in this tree
	@rm -rf build
	@cd kernel && rm -rf *.o *.ko *.mod *.mod.c .*.cmd .tmp_versions modules.order Module.symvers .module-common.o

clean-cache: ## remove downloaded and built kernels
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/gmem"

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done

.PHONY: all module library selftests tools demo check check-long bench bench-vhost vm docs coverage tidy style install clean clean-cache help
