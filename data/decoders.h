// One function a format, for decode.cpp alone.
#pragma once
#include <memory>
#include <span>
#include <string_view>

#include "core/error.h"
#include "data/decode.h"
#include "data/label_image.h"

namespace sg::data {

using Bytes = std::span<const uint8_t>;

std::unique_ptr<Source> open_jpeg(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_png(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_bmp(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_gif(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_pnm(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_webp(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_tiff(Bytes bytes, std::string_view name, const DecodeLimits& limits);
std::unique_ptr<Source> open_avif(Bytes bytes, std::string_view name, const DecodeLimits& limits);

// The numbers of a PNG of grey values or of a palette (data/label_image.h).
void decode_png_indices(Bytes bytes, std::string_view name, const DecodeLimits& limits,
                        LabelImage& out);

// The message of every broken file ends in what to do.
[[noreturn]] void broken(std::string_view name, std::string_view format, std::string_view what);

void check_size(std::string_view name, std::string_view format, int64_t height, int64_t width,
                const DecodeLimits& limits);
void check_box(const Source& source, const Box& box);

// Copies `box` of `from` into `out`.
void copy_box(const ImageView& from, const Box& box, Image& out);

}  // namespace sg::data
