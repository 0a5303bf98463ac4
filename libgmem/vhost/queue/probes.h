// SPDX-License-Identifier: MIT OR Apache-2.0
// Static probes, for perf, bpftrace and systemtap: provider gmem. Not installed.
//
// A probe that nobody uses costs one no-op instruction. Without <sys/sdt.h> (Debian:
// systemtap-sdt-dev) there are none, and the library does the same.
//
//   kick(queue), call(queue)
//   pop(queue, spans), push(queue, written)
//   map(guest address, size), unmap(guest address, size)
#ifndef GMEM_VHOST_QUEUE_PROBES_H_
#define GMEM_VHOST_QUEUE_PROBES_H_

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define GMEM_HAS_PROBES 1
#endif
#endif

#ifdef GMEM_HAS_PROBES
#include <sys/sdt.h>
#define GMEM_PROBE1(name, a) DTRACE_PROBE1(gmem, name, a)
#define GMEM_PROBE2(name, a, b) DTRACE_PROBE2(gmem, name, a, b)
#else
#define GMEM_PROBE1(name, a) static_cast<void>(a)
#define GMEM_PROBE2(name, a, b) (static_cast<void>(a), static_cast<void>(b))
#endif

#endif  // GMEM_VHOST_QUEUE_PROBES_H_
