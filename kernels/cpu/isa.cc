#include "kernels/cpu/isa.h"

#include <cpuid.h>

#include "base/strings.h"

namespace quantd::cpu {
namespace {

bool HasF16c() {  // clang 14's __builtin_cpu_supports does not know it
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool HasAvx2() {  // asks the operating system too
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}

}  // namespace

absl::StatusOr<const CpuOps*> SelectOps(std::string_view isa) {
  if (isa.empty()) return HasAvx2() ? &Avx2Ops() : &PortableOps();
  if (isa == "portable") return &PortableOps();
  if (isa != "avx2") {
    return absl::InvalidArgumentError(
        absl::StrCat("instruction set \"", ToAbsl(isa), "\" is unknown; there are: portable, avx2"));
  }
  if (!HasAvx2()) return absl::UnavailableError("this processor has no AVX2 with FMA and F16C");
  return &Avx2Ops();
}

}  // namespace quantd::cpu
