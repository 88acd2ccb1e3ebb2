// Element types as files hold them. Those without a dtype of ours are converted when read.
#pragma once
#include <cstddef>

#include "core/dtype.h"

namespace sg {

enum class StoredType : uint8_t { f32, bf16, f64, i32, u8, f16, i64, i16, i8, boolean };

size_t size_of(StoredType type);
Dtype dtype_of(StoredType type);  // f16 -> f32; i64, i16, i8 -> i32; boolean -> u8

// One element; `from` need not be aligned, `to` is of dtype_of(type). False where an i64 does not
// fit into i32, and then nothing is written.
bool convert_element(StoredType type, const std::byte* from, std::byte* to);

}  // namespace sg
