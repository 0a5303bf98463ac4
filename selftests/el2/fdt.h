/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _FDT_H
#define _FDT_H

#include "el2.h"

/* Take the monitor's part off the host's RAM. Returns where RAM ends. */
u64 fdt_hide_monitor(void *dtb);
/* "" if there are none. */
const char *fdt_bootargs(void *dtb);
/* Have the host call PSCI by HVC, and with it all of SMCCC. */
void fdt_use_hvc(void *dtb);
/* Add the node that the driver binds to. The tree grows by less than a page. */
void fdt_add_resource_manager(void *dtb);

#endif /* _FDT_H */
