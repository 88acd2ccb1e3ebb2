#include "dist/message.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace sg::dist {
namespace {

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Takes values from the front of bytes; false where they end.
struct Reader {
  std::string_view rest;

  template <class T>
  bool take(T& value) {
    if (rest.size() < sizeof(value)) return false;
    std::memcpy(&value, rest.data(), sizeof(value));
    rest.remove_prefix(sizeof(value));
    return true;
  }
  bool take(std::string& text) {
    uint32_t size = 0;
    if (!take(size) || rest.size() < size) return false;
    text = rest.substr(0, size);
    rest.remove_prefix(size);
    return true;
  }
  bool read(Message& m) {
    uint32_t numbers = 0, texts = 0;
    if (!take(m.type) || !take(numbers) || numbers > rest.size()) return false;
    m.numbers.resize(numbers);
    for (int64_t& n : m.numbers)
      if (!take(n)) return false;
    if (!take(texts) || texts > rest.size()) return false;
    m.texts.resize(texts);
    for (std::string& t : m.texts)
      if (!take(t)) return false;
    return rest.empty();
  }
};

}  // namespace

Channel::Channel(FileDescriptor fd, size_t max_bytes) : fd_(std::move(fd)), max_bytes_(max_bytes) {
  ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
}

void Channel::send(const Message& m) {
  if (!open()) return;
  const size_t begin = out_.size();
  put(out_, uint32_t{0});
  put(out_, m.type);
  put(out_, uint32_t(m.numbers.size()));
  for (const int64_t n : m.numbers) put(out_, n);
  put(out_, uint32_t(m.texts.size()));
  for (const std::string& t : m.texts) {
    put(out_, uint32_t(t.size()));
    out_ += t;
  }
  const size_t bytes = out_.size() - begin - sizeof(uint32_t);
  check(bytes <= kMaxBytes, "a message of {} bytes between processes: at most {}", bytes,
        kMaxBytes);
  const auto size = uint32_t(bytes);
  std::memcpy(out_.data() + begin, &size, sizeof(size));
  send_rest();
}

void Channel::send_rest() {
  while (open() && unsent()) {
    const ssize_t n = ::send(fd(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (n >= 0)
      sent_ += size_t(n);
    else if (errno == EAGAIN)
      return;
    else if (errno != EINTR)
      close();
  }
  out_.clear();
  sent_ = 0;
}

bool Channel::take(Message& message) {
  uint32_t size = 0;
  if (in_.size() < sizeof(size)) return false;
  std::memcpy(&size, in_.data(), sizeof(size));
  if (size > max_bytes_) {
    close();
    return false;
  }
  if (in_.size() < sizeof(size) + size) return false;
  Reader reader{std::string_view(in_).substr(sizeof(size), size)};
  const bool whole = reader.read(message);
  in_.erase(0, sizeof(size) + size);
  if (!whole) close();
  return whole;
}

void Channel::receive(std::vector<Message>& messages, size_t most) {
  char bytes[1 << 16];
  bool ended = false;
  while (open() && !ended) {
    const ssize_t n = ::recv(fd(), bytes, sizeof(bytes), 0);
    if (n > 0)
      in_.append(bytes, size_t(n));
    else if (n < 0 && errno == EAGAIN)
      break;
    else if (n == 0 || errno != EINTR)
      ended = true;
    if (in_.size() > max_bytes_ + sizeof(uint32_t)) break;
  }
  Message m;
  while (open() && messages.size() < most && take(m)) messages.push_back(std::move(m));
  if (ended) close();
}

}  // namespace sg::dist
