// SPDX-License-Identifier: MIT OR Apache-2.0
// The host's part beside running the guest: it touches memory that may be lent, reads files, and
// understands the guest's answers.
#ifndef GMEM_TOOLS_MINIVMM_HOST_H_
#define GMEM_TOOLS_MINIVMM_HOST_H_

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "or_die.h"

namespace minivmm {

inline thread_local sigjmp_buf touch_env;

// Call this before the first access.
inline void CatchSigbus() {
  signal(SIGBUS, [](int) { siglongjmp(touch_env, 1); });
}

// The host reads or writes a word. Returns nothing, or false, if the access raised SIGBUS.
inline std::optional<uint32_t> Peek(const volatile uint32_t* address) {
  if (sigsetjmp(touch_env, 1)) return std::nullopt;
  return *address;
}
inline bool Poke(volatile uint32_t* address, uint32_t value) {
  if (sigsetjmp(touch_env, 1)) return false;
  *address = value;
  return true;
}

inline gmem::Mapping MapFile(const char* path) {
  const gmem::UniqueFd fd(OrDie(open(path, O_RDONLY | O_CLOEXEC), path));
  const gmem::ByteSize size(OrDie(lseek(fd.get(), 0, SEEK_END), path));
  return OrDie(
      gmem::Mapping::OfFile(fd.get(), {.size = size, .access = gmem::MemoryAccess::kReadOnly}));
}

// Returns the number at the end of an answer of the guest's program; hexadecimal ones begin with
// 0x.
inline uint64_t LastNumber(const std::string& answer) {
  return std::strtoull(&answer[answer.rfind(' ') + 1], nullptr, 0);
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_HOST_H_
