// TensorBoard event files: TFRecords (length and data, each with a masked CRC-32C) of the protocol
// buffer Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5
// ; SourceMetadata { string writer = 1 } source_metadata = 10 } with Summary { repeated Value value
// = 1 } and Value { string tag = 1; float simple_value = 2 }.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sg::report {

using Scalars = std::vector<std::pair<std::string, double>>;  // tag -> value

// Whether a file that begins so was written by this program: its header names the writer.
bool is_own_tensorboard_file(std::string_view begin);

// That of earlier versions, which did not name the writer.
std::string unnamed_tensorboard_header(double wall_time);

// Records, to be appended to a file that begins with tensorboard_header().
std::string tensorboard_header(double wall_time);
std::string tensorboard_record(double wall_time, int64_t step, const Scalars& values);

uint32_t crc32c(std::string_view bytes);

}  // namespace sg::report
