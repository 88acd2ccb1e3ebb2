// Small helpers for messages, for names, and for what people type.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/box.h"

namespace sg {

// What of `known` was most likely meant, as "; did you mean 'x'?", or "" where nothing is near: the
// only one that begins with `word`, or the nearest with at most one typing error in four letters.
// Hyphens in front and upper case do not count.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// Names of files and folders are bytes; JSON, reports and logs are UTF-8. In what is written a name
// has \xe9 in place of a byte that is no UTF-8, and \x5c for a backslash that could be taken for
// the begin of such. So two names never become one, and unescape_name() gives the bytes back.
std::string escape_name(std::string_view bytes);
std::string unescape_name(std::string_view text);
// For a message, which may hold escaped names already: escapes odd bytes alone.
std::string escape_odd_bytes(std::string_view text);
// The words as one line that a shell takes apart into the same bytes again: "sgtrain --data 'my
// images'".
std::string shell_command(const std::vector<std::string>& words);

// The number that the whole of `text` is, decimal; nothing where it is none, or out of range.
std::optional<int64_t> parse_integer(std::string_view text);
std::optional<double> parse_number(std::string_view text);

// "224" for a square, "320x256" (height, width) for the others.
std::string str(const ImageSize& size);
// "224", "320x256", "320 256"; nothing where it is none of these.
std::optional<ImageSize> parse_image_size(std::string_view text);

// "1.235"; "nan", "inf" or "-inf" where it is no such number.
std::string fixed(double value, int digits);

}  // namespace sg
