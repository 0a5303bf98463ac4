# SPDX-License-Identifier: Apache-2.0
#
# The version of the module, the library and the tools. It is here, because this folder is the only
# one that all of them see.
GMEM_VERSION := 0.1.0
