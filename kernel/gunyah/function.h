/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_FUNCTION_H
#define _GMEM_GUNYAH_FUNCTION_H

int gunyah_vm_add_function_call(void *obj, void *arg);
int gunyah_vm_remove_function_call(void *obj, void *arg);

#endif /* _GMEM_GUNYAH_FUNCTION_H */
