// Return early on an absl::Status or absl::StatusOr that is not OK.
#pragma once

#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#define QD_RETURN_IF_ERROR(expr)             \
  do {                                       \
    ::absl::Status qd_status_ = (expr);      \
    if (!qd_status_.ok()) return qd_status_; \
  } while (false)

#define QD_CONCAT_INNER(a, b) a##b
#define QD_CONCAT(a, b) QD_CONCAT_INNER(a, b)
#define QD_ASSIGN_OR_RETURN(lhs, expr) QD_ASSIGN_OR_RETURN_IMPL(QD_CONCAT(qd_status_or_, __LINE__), lhs, expr)
#define QD_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = std::move(tmp).value()
