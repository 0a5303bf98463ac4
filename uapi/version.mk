# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The version of the module, the library and the tools. It is here, because this folder is the only
# one that all of them see.
GMEM_VERSION := 0.1.0
# The address for mail about gmem and its faults. The project has no public address yet, and no mail
# reaches a domain below .invalid.
GMEM_MAINTAINER := The gmem authors <gmem@gmem.invalid>
