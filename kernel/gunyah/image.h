/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The image: the lent memory that a guest starts with, in one parcel, with the
 * device tree in it.
 */
#ifndef _GMEM_GUNYAH_IMAGE_H
#define _GMEM_GUNYAH_IMAGE_H

struct gunyah_rm_image;
struct gunyah_vm;

/*
 * Find the pages of the image: gunyah_vm.first and .last. Under gmem_vm.lock.
 */
int gunyah_image_find(struct gunyah_vm *g);
/*
 * Find the image, and check that the Resource Manager can start a guest with it
 * and with the registers that are set; the log says why not.
 */
int gunyah_image_check(struct gunyah_vm *g);
/* Fill the offsets. Under gunyah_vm.mem_lock, once the image is a parcel. */
int gunyah_image_describe(struct gunyah_vm *g, struct gunyah_rm_image *image);

#endif /* _GMEM_GUNYAH_IMAGE_H */
