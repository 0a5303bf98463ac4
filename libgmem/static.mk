# SPDX-License-Identifier: MIT OR Apache-2.0
#
# $(call static_libs,LIBRARIES): link flags for a program that uses libgmem and LIBRARIES.
# The program runs on machines without Abseil, so all libraries are static, except libmnl,
# which Debian has only as a shared library, and libc, which libmnl needs. Some
# distributions have Abseil only as shared libraries: there, all libraries are shared.
comma := ,
static_absl := $(wildcard $(shell pkg-config --variable=libdir absl_base 2>/dev/null)/libabsl_base.a)
static_libs = $(if $(static_absl),-static-libstdc++ -static-libgcc -Wl$(comma)-Bstatic) $(1) \
	-Wl$(comma)-Bdynamic $(shell pkg-config --libs libmnl)
