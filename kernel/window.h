/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_WINDOW_H
#define _GMEM_WINDOW_H

struct gmem_provider;

extern const struct gmem_provider gmem_window_provider;

#endif /* _GMEM_WINDOW_H */
