/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _FDT_H
#define _FDT_H

#include "el2.h"

/* Remove the monitor's part from the host's RAM. Returns the end of RAM. */
u64 fdt_hide_monitor(void *dtb);
/* The kernel's command line, or "". */
const char *fdt_bootargs(void *dtb);
/* Make the host call PSCI, and with it all of SMCCC, by HVC. */
void fdt_use_hvc(void *dtb);
/* Add the node that the driver binds to. The tree grows by less than a page. */
void fdt_add_resource_manager(void *dtb);

#endif /* _FDT_H */
