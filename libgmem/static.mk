# SPDX-License-Identifier: Apache-2.0
#
# $(call static_libs,LIBRARIES): link flags for a program that uses them and libgmem. It
# is to run where Abseil isn't, so all is static but libmnl, of which Debian has no static
# library, and libc, which goes with it.
comma := ,
static_libs = -static-libstdc++ -static-libgcc -Wl$(comma)-Bstatic $(1) \
	-Wl$(comma)-Bdynamic $(shell pkg-config --libs libmnl)
