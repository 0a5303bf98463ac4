// SPDX-License-Identifier: MIT OR Apache-2.0
// Eventfds of a VM under Gunyah: one that interrupts the guest, and one that the guest signals.
#ifndef GMEM_TOOLS_MINIVMM_GUNYAH_FUNCTION_H_
#define GMEM_TOOLS_MINIVMM_GUNYAH_FUNCTION_H_

#include <linux/gmem_gunyah.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <cstdint>

#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "or_die.h"

namespace minivmm {

template <typename Argument>
void AddFunction(const gmem::Vm& vm, uint32_t type, const Argument& argument) {
  gmem_gunyah_fn_desc function = {};
  function.type = type;
  function.arg_size = sizeof(argument);
  function.arg = reinterpret_cast<uintptr_t>(&argument);
  OrDie(ioctl(vm.fd(), GMEM_GUNYAH_ADD_FUNCTION, &function), "GMEM_GUNYAH_ADD_FUNCTION");
}

// Returns an eventfd: each write to it rings the doorbell with that label once.
inline gmem::UniqueFd AddIrqfd(const gmem::Vm& vm, uint32_t label) {
  gmem::UniqueFd event(OrDie(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
  gmem_gunyah_fn_irqfd_arg irqfd = {};
  irqfd.fd = static_cast<uint32_t>(event.get());
  irqfd.label = label;
  irqfd.flags = GMEM_GUNYAH_IRQFD_LEVEL;
  AddFunction(vm, GMEM_GUNYAH_FN_IRQFD, irqfd);
  return event;
}

// Returns an eventfd, which counts the guest's writes of 4 bytes to the address. They are no exits.
inline gmem::UniqueFd AddIoeventfd(const gmem::Vm& vm, gmem::GuestAddress address) {
  gmem::UniqueFd event(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  gmem_gunyah_fn_ioeventfd_arg ioeventfd = {};
  ioeventfd.addr = address.value();
  ioeventfd.len = sizeof(uint32_t);
  ioeventfd.fd = event.get();
  AddFunction(vm, GMEM_GUNYAH_FN_IOEVENTFD, ioeventfd);
  return event;
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_GUNYAH_FUNCTION_H_
