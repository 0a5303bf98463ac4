// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_TOOLS_MINIVMM_STATUS_MACROS_H_
#define GMEM_TOOLS_MINIVMM_STATUS_MACROS_H_

#include <utility>

#define MINIVMM_RETURN_IF_ERROR(expr)                         \
  do {                                                        \
    if (auto status_ = (expr); !status_.ok()) return status_; \
  } while (false)

#define MINIVMM_CONCAT_INNER(a, b) a##b
#define MINIVMM_CONCAT(a, b) MINIVMM_CONCAT_INNER(a, b)

// MINIVMM_ASSIGN_OR_RETURN(gmem::Vm vm, device.CreateVm());
#define MINIVMM_ASSIGN_OR_RETURN(lhs, expr) \
  MINIVMM_ASSIGN_OR_RETURN_INNER(MINIVMM_CONCAT(result_, __LINE__), lhs, expr)
#define MINIVMM_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                                   \
  if (!result.ok()) return std::move(result).status();    \
  lhs = *std::move(result)

#endif  // GMEM_TOOLS_MINIVMM_STATUS_MACROS_H_
