#include "core/dtype.h"

#include <array>

namespace sg {
namespace {
struct Entry {
  Dtype dtype;
  std::string_view name;
  size_t size;
};
constexpr std::array kDtypes{Entry{Dtype::f32, "f32", 4}, Entry{Dtype::bf16, "bf16", 2},
                             Entry{Dtype::f64, "f64", 8}, Entry{Dtype::i32, "i32", 4},
                             Entry{Dtype::u8, "u8", 1}};
}  // namespace

size_t size_of(Dtype dtype) { return kDtypes[size_t(dtype)].size; }
std::string_view name_of(Dtype dtype) { return kDtypes[size_t(dtype)].name; }

Dtype parse_dtype(std::string_view name) {
  for (const Entry& e : kDtypes)
    if (e.name == name) return e.dtype;
  fail(ExitCode::usage, "dtype '{}' is unknown; expected f32, bf16 or f64", name);
}

}  // namespace sg
