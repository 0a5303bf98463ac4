/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_PROVIDER_H
#define _GMEM_GUNYAH_PROVIDER_H

struct gmem_provider;

/* Memory goes to VMs of the Gunyah hypervisor (arm64). */
extern const struct gmem_provider gmem_gunyah_provider;

#endif /* _GMEM_GUNYAH_PROVIDER_H */
