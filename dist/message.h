// What the ranks of a run say to each other beside tensors, and the connections it goes over.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace sg::dist {

struct Message {
  enum class Type : uint8_t {
    hello,    // numbers: rank, ranks, process; texts: kProtocol, job, host
    refused,  // texts: why
    welcome,  // all have come; numbers: process of each; texts: host and address of each
    set,      // texts: key, value
    get,      // texts: key; the answer, when it was set: value
    value,
    meet,     // a collective: numbers: kind; texts: what, this rank's text
    met,      // texts: as the kind has it
    beat,     // sign of life; of a client: where it stands, see standing.h
    failed,   // answer to meet, texts: why
    leave,    // texts: reason
    goodbye,  // regular end; the server's answer: all have said it
    verdict,  // texts: who was lost, and how
  };
  Type type = Type::beat;
  std::vector<int64_t> numbers{};
  std::vector<std::string> texts{};
};

// Changes with the messages: processes of different builds do not join.
constexpr std::string_view kProtocol = "sgtrain ranks 1";

// Neither sending nor receiving waits: poll() for POLLIN, and for POLLOUT while unsent().
class Channel {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 30, kMaxHello = size_t{1} << 16;

  Channel() = default;  // closed
  // `max_bytes` of a message that is received.
  explicit Channel(FileDescriptor fd, size_t max_bytes = kMaxBytes);
  void set_max_bytes(size_t bytes) { max_bytes_ = bytes; }

  int fd() const { return fd_.get(); }
  bool open() const { return fd_.get() >= 0; }
  void close() { fd_ = FileDescriptor(); }

  // After an error these close the connection.
  void send(const Message& message);
  void send_rest();
  bool unsent() const { return sent_ < out_.size(); }
  // Adds to `messages` what has come, until they are `most`; closes at the end of the stream, and
  // where the bytes are no message.
  void receive(std::vector<Message>& messages, size_t most = SIZE_MAX);

 private:
  bool take(Message& message);

  FileDescriptor fd_;
  size_t max_bytes_ = 0, sent_ = 0;  // sent_: of out_
  std::string in_, out_;
};

}  // namespace sg::dist
