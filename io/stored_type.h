// Element types as files hold them. Those without a dtype of ours are converted when read.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace sg {

enum class StoredType : uint8_t { f32, bf16, f64, i32, u8, f16, i64, i16, i8, boolean };

size_t size_of(StoredType type);
Dtype dtype_of(StoredType type);  // f16 -> f32; i64, i16, i8 -> i32; boolean -> u8

// Converts `count` elements to dtype_of(type); they lie `stride` elements apart and need not be
// aligned, `to` is dense. The result is `count`, or the index of the first i64 that does not fit
// into i32.
int64_t convert(StoredType type, const std::byte* from, int64_t stride, int64_t count,
                std::byte* to);

// The elements of a tensor on the CPU as `type`, of those of dtypes and f16, lays them out. An
// error names the tensor where a finite value is too large for f16.
std::vector<std::byte> encode(std::string_view name, const Tensor& tensor, StoredType type);

// How a file holds a tensor: as `wanted` where its elements are floating-point, else as they are.
StoredType stored_type(Dtype dtype, std::optional<StoredType> wanted = {});

}  // namespace sg
