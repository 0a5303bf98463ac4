// SPDX-License-Identifier: MIT OR Apache-2.0
// The kernel's <linux/virtio_net.h>, which has a member that is called "class": here it is "cls".
#ifndef GMEM_TOOLS_VHOST_VIRTIO_NET_H_
#define GMEM_TOOLS_VHOST_VIRTIO_NET_H_

#include <linux/if_ether.h>
#include <linux/types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_types.h>

#define class cls
#include <linux/virtio_net.h>
#undef class

#endif  // GMEM_TOOLS_VHOST_VIRTIO_NET_H_
