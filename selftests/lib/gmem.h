/* SPDX-License-Identifier: GPL-2.0-only */
/* The module as tests use it, without guests, which are in guest.h. */
#ifndef LIB_GMEM_H
#define LIB_GMEM_H

#include "device.h"
#include "guestmem.h"
#include "mock.h"
#include "proc.h"
#include "test.h"
#include "touch.h"
#include "vm.h"

#endif /* LIB_GMEM_H */
