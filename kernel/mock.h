/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_MOCK_H
#define _GMEM_MOCK_H

#ifdef CONFIG_GMEM_TEST
#include <linux/gmem_test.h>

struct gmem_provider;

/* A second stage in software, for tests. */
extern const struct gmem_provider gmem_mock_provider;
#endif

#endif /* _GMEM_MOCK_H */
