/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_QUERY_H
#define _GMEM_QUERY_H

int gmem_vm_query_call(void *obj, void *arg);

#endif /* _GMEM_QUERY_H */
