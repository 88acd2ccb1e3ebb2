#include "report/tensorboard.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace sg;

namespace {

std::string hex(const std::string& bytes) {
  std::string out;
  for (unsigned char c : bytes) out += fmt::format("{:02x}", c);
  return out;
}

}  // namespace

TEST_CASE("tensorboard: CRC-32C of the standard's example") {
  CHECK(report::crc32c("123456789") == 0xe3069283u);
  CHECK(report::crc32c("") == 0);
}

// Made with the Python package tensorboardX 2.6.5:
//   from tensorboardX.proto import event_pb2, summary_pb2
//   from tensorboardX.record_writer import RecordWriter
//   w = RecordWriter("x"); V = summary_pb2.Summary.Value
//   w.write(event_pb2.Event(wall_time=1.5, file_version="brain.Event:2").SerializeToString())
//   w.write(event_pb2.Event(wall_time=2.5, step=300, summary=summary_pb2.Summary(value=[
//       V(tag="loss/train", simple_value=0.25), V(tag="lr",
//       simple_value=1e-3)])).SerializeToString())
TEST_CASE("tensorboard: the bytes of another writer") {
  CHECK(hex(report::tensorboard_header(1.5)) ==
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
  CHECK(hex(report::tensorboard_record(2.5, 300, {{"loss/train", 0.25}, {"lr", 1e-3}})) ==
        "2c00000000000000f4aecc4509000000000000044010ac022a1e0a110a0a6c6f73732f747261696e150000803e"
        "0a090a026c72156f12833a13ee8c34");
}
