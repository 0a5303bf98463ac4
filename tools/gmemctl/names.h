// SPDX-License-Identifier: MIT OR Apache-2.0
// The names that the creators of objects chose, by number.
#ifndef GMEMCTL_NAMES_H_
#define GMEMCTL_NAMES_H_

#include <cstdint>
#include <map>
#include <string>

#include "gmem/monitor.h"
#include "objects.h"

namespace gmemctl {

class Names {
 public:
  Names() = default;
  explicit Names(const Objects& objects);

  // "" for an object that has no name, or that isn't known.
  const std::string& OfVm(uint32_t id) const { return Find(vms_, id); }
  const std::string& OfMemory(uint64_t id) const { return Find(memories_, id); }
  const std::string& OfWindow(uint32_t id) const { return Find(windows_, id); }
  const std::string& OfView(uint32_t id) const { return Find(views_, id); }

  // Learns the name of an object that the event says is new.
  void Add(const gmem::Event& event);
  // Forgets that of an object that is gone. The event may still be shown with the name before.
  void Remove(const gmem::Event& event);

 private:
  using ById = std::map<uint64_t, std::string>;
  static const std::string& Find(const ById& names, uint64_t id);

  ById vms_, memories_, windows_, views_;
};

}  // namespace gmemctl

#endif  // GMEMCTL_NAMES_H_
