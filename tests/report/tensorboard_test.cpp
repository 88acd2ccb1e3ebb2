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
//   header = event_pb2.Event(wall_time=1.5, file_version="brain.Event:2")
//   header.MergeFromString(b"\x52\x09\x0a\x07sgtrain")  # source_metadata, which it does not know
//   w.write(header.SerializeToString())
//   w.write(event_pb2.Event(wall_time=2.5, step=300, summary=summary_pb2.Summary(value=[
//       V(tag="loss/train", simple_value=0.25), V(tag="lr",
//       simple_value=1e-3)])).SerializeToString())
TEST_CASE("tensorboard: the bytes of another writer") {
  CHECK(hex(report::tensorboard_header(1.5)) ==
        "2300000000000000b09f774309000000000000f83f1a0d627261696e2e4576656e743a3252090a077367747261"
        "696eeddd2835");
  CHECK(hex(report::tensorboard_record(2.5, 300, {{"loss/train", 0.25}, {"lr", 1e-3}})) ==
        "2c00000000000000f4aecc4509000000000000044010ac022a1e0a110a0a6c6f73732f747261696e150000803e"
        "0a090a026c72156f12833a13ee8c34");
}

TEST_CASE("tensorboard: files of this program are told from those of others") {
  const std::string own = report::tensorboard_header(7.25);
  CHECK(report::is_own_tensorboard_file(own));
  CHECK(report::is_own_tensorboard_file(own + report::tensorboard_record(8, 1, {})));
  CHECK_FALSE(report::is_own_tensorboard_file(own.substr(0, 20)));
  CHECK_FALSE(report::is_own_tensorboard_file(""));
  // A file of tensorboardX, which names no writer.
  const std::string other(
      "\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0d"
      "brain.Event:2*(dl",
      40);
  CHECK_FALSE(report::is_own_tensorboard_file(other));
}
