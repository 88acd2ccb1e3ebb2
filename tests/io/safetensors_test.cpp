#include "io/safetensors.h"

#include <cmath>
#include <cstring>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

std::string file_of(const std::string& header, size_t bytes) {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(bytes, '\0');
}

// The error of opening a file with this content.
std::string error_for(const std::string& content) {
  const TemporaryFolder folder;
  put(folder / "bad.safetensors", content);
  const std::string message =
      error_of(ExitCode::checkpoint, [&] { Safetensors::open(folder / "bad.safetensors"); });
  CHECK(contains(message, "bad.safetensors"));
  return message;
}

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::vector<NamedTensor> sample() {
  return {{"bytes", from_vector<uint8_t>({1, 2, 255}, {3})},
          {"weight", from_vector<float>({0, -1.5f, 2, 3, 4, 5}, {3, 2})},
          {"half", from_vector<float>({1, -2}, {2}).to(Dtype::bf16)},
          {"double", from_vector<double>({0.1}, {})},
          {"none", empty({0, 4})},
          {"int", from_vector<int32_t>({-7, 1 << 30}, {1, 2})}};
}

}  // namespace

TEST_CASE("what is written is read back") {
  const TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  const Metadata metadata{{"format", "pt"}, {"quote", "\"\\\n\u00fc"}};
  write_safetensors(path, sample(), metadata);
  const Safetensors file = Safetensors::open(path);
  CHECK(file.metadata() == metadata);
  CHECK(file.names().front() == "double");  // large elements first: every tensor is aligned
  CHECK(file.names().size() == 6);
  for (const auto& [name, tensor] : sample()) {
    CAPTURE(name);
    const Tensor read = file.tensor(name);
    CHECK(read.shape() == tensor.shape());
    CHECK(read.dtype() == tensor.dtype());
    CHECK(file.shape(name) == tensor.shape());
    CHECK(file.dtype(name) == tensor.dtype());
    CHECK(to_vector<double>(read) == to_vector<double>(tensor));
  }
  CHECK(contains(error_of(ExitCode::checkpoint, [&] { file.tensor("bias"); }), "'bias'"));
}

TEST_CASE("the writer refuses equal names and text that is not UTF-8") {
  const auto ignore = [](const void*, size_t) {};
  const Tensor t = zeros({1});
  CHECK_THROWS_AS(write_safetensors(ignore, {{"a", t}, {"a", t}}), Error);
  CHECK_THROWS_AS(write_safetensors(ignore, {{"__metadata__", t}}), Error);
  CHECK_THROWS_AS(write_safetensors(ignore, {{"\xff", t}}), Error);
  CHECK_THROWS_AS(write_safetensors(ignore, {{"a", Tensor()}}), Error);
}

TEST_CASE("types that we do not have are converted") {
  const TemporaryFolder folder;
  std::string file =
      file_of(R"({"h":)" + entry("[6]", "[0,12]", "F16") + R"(,"l":)" +
                  entry("[2]", "[12,28]", "I64") + R"(,"b":)" + entry("[2]", "[28,30]", "BOOL") +
                  R"(,"s":)" + entry("[1]", "[30,32]", "I16") + "}",
              0);
  const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x7e00, 0x7bff};
  const int64_t longs[] = {-3, int64_t{1} << 40};
  const uint8_t bools[] = {0, 7};
  const int16_t shorts[] = {-9};
  file.append(reinterpret_cast<const char*>(halves), sizeof halves);
  file.append(reinterpret_cast<const char*>(longs), sizeof longs);
  file.append(reinterpret_cast<const char*>(bools), sizeof bools);
  file.append(reinterpret_cast<const char*>(shorts), sizeof shorts);
  put(folder / "a", file);
  const Safetensors read = Safetensors::open(folder / "a");
  CHECK(read.dtype("h") == Dtype::f32);
  const auto h = to_vector<double>(read.tensor("h"));
  CHECK(h[0] == 1);
  CHECK(h[1] == -2);
  CHECK(h[2] == std::ldexp(1.0, -24));
  CHECK(h[3] == INFINITY);
  CHECK(std::isnan(h[4]));
  CHECK(h[5] == 65504);
  CHECK(to_vector<int>(read.tensor("s")) == std::vector<int>{-9});
  CHECK(to_vector<uint8_t>(read.tensor("b")) == std::vector<uint8_t>{0, 1});
  const std::string message = error_of(ExitCode::checkpoint, [&] { read.tensor("l"); });
  CHECK(contains(message, "tensor 'l': element 1 does not fit into 32 bits"));
}

TEST_CASE("no metadata may be null, and nothing else") {
  const TemporaryFolder folder;
  put(folder / "a.safetensors",
      file_of(R"({"__metadata__":null,"a":)" + entry("[2]", "[0,8]") + "}", 8));
  const Safetensors file = Safetensors::open(folder / "a.safetensors");
  CHECK(file.metadata().empty());
  CHECK(file.names() == std::vector<std::string>{"a"});
  CHECK(contains(error_for(file_of(R"({"a":null})", 0)), "found null"));
  CHECK(contains(error_for(file_of(R"({"__metadata__":{"a":null}})", 0)), "found null"));
}

TEST_CASE("numbers are written as another type, to the nearest") {
  const TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  const auto written = [&](const std::vector<float>& values, StoredType type) {
    AtomicFile file(path);
    write_safetensors([&](const void* data, size_t bytes) { file.write(data, bytes); },
                      {{"a", from_vector(values, {int64_t(values.size())})},
                       {"i", from_vector<int32_t>({70'000}, {1})}},
                      {}, type);
    file.commit();
    const Safetensors read = Safetensors::open(path);
    CHECK(to_vector<int>(read.tensor("i")) == std::vector<int>{70'000});
    return to_vector<float>(read.tensor("a"));
  };
  // Halves have 11 bits, to 2^-24 below 2^-14, and end at 65504; ties go to the even one.
  const std::vector<float> exact{0,        -0.0f,    1,        -2.5f,    65504,
                                 0x1p-14f, 0x1p-24f, 0x3p-24f, INFINITY, -INFINITY};
  CHECK(written(exact, StoredType::f16) == exact);
  CHECK(std::signbit(written(exact, StoredType::f16)[1]));
  CHECK(std::isnan(written({NAN}, StoredType::f16)[0]));
  CHECK(written({1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1.1p-11f, 0x1p-25f, 0x3p-25f, 0x1p-26f, 65519},
                StoredType::f16) ==
        std::vector<float>{1, 1 + 0x1p-9f, 1 + 0x1p-10f, 0, 0x1p-23f, 0, 65504});
  CHECK(written({1 + 0x1p-8f, 3}, StoredType::bf16) == std::vector<float>{1, 3});
  CHECK(contains(error_of(ExitCode::failure, [&] { written({65520}, StoredType::f16); }),
                 "tensor 'a': 65520 is too large for f16"));
}

TEST_CASE("damaged headers are refused and named") {
  const std::string one = R"({"a":)" + entry("[2]", "[0,8]");
  CHECK(contains(error_for(""), "found an empty file"));
  CHECK(contains(error_for(std::string(8, '\xff')), "found a file of another kind"));
  CHECK(contains(error_for(file_of("", 0)), "found zero bytes"));
  CHECK(contains(error_for(file_of(" {}", 0)), "found a file of another kind"));
  CHECK(contains(error_for(file_of("{}", 0).substr(0, 9)), "header: its length 2 exceeds 1"));
  CHECK(contains(error_for(file_of("{", 0)), "header byte"));
  CHECK(contains(error_for(file_of("{}x", 0)), "header byte"));
  CHECK(contains(error_for(file_of(std::string("{}\0x", 4), 0)), "zero byte"));
  CHECK(contains(error_for(file_of("{\"\xff\":1}", 0)), "header byte"));
  CHECK(contains(error_for(file_of("{}", 3)), "expected 0 bytes of tensors, found 3"));
  CHECK(contains(error_for(file_of(one + "}", 7)), "tensor 'a'"));
  CHECK(contains(error_for(file_of(one + "}", 9)), "expected 8 bytes of tensors, found 9"));
  CHECK(contains(error_for(file_of(one + R"(,"a":)" + entry("[2]", "[8,16]") + "}", 16)),
                 "tensor 'a': the name occurs twice"));
  CHECK(contains(error_for(file_of(one + R"(,"b":)" + entry("[2]", "[4,12]") + "}", 12)),
                 "tensor 'b': expected its bytes at 8"));
  CHECK(contains(error_for(file_of(one + R"(,"b":)" + entry("[2]", "[12,20]") + "}", 20)),
                 "tensor 'b': expected its bytes at 8"));
  CHECK(contains(error_for(file_of(R"({"__metadata__":{"x":"1","x":"2"}})", 0)),
                 "__metadata__: key 'x' occurs twice"));
  CHECK(contains(error_for(file_of(R"({"__metadata__":{"x":1}})", 0)), "__metadata__: x"));
  CHECK(contains(error_for(file_of(R"({"a":3})", 0)), "tensor 'a'"));
  CHECK(contains(error_for(file_of(R"({"a":{}})", 0)), "expected dtype, shape and data_offsets"));
  CHECK(contains(error_for(file_of(R"({"a":{"dtype":"F32","dtype":"F32"}})", 0)), "occurs twice"));
  CHECK(contains(error_for(file_of(R"({"a":{"typo":"F32"}})", 0)), "field 'typo' is unknown"));
  for (const char* shape : {"[3]", "[-2]", "[2.0]", "[1e0]", "[[2]]", "\"2\"", "null",
                            "[1,1,1,1,1,1,2]", "[4611686018427387905,4]", "[18446744073709551615]"})
    CHECK(contains(error_for(file_of(R"({"a":)" + entry(shape, "[0,8]") + "}", 8)), "tensor 'a'"));
  for (const char* offsets : {"[8,0]", "[0]", "[0,8,8]", "[0,18446744073709551624]", "[1,9]"})
    CHECK(contains(error_for(file_of(R"({"a":)" + entry("[2]", offsets) + "}", 8)), "tensor 'a'"));
  CHECK(contains(error_for(file_of(R"({"a":)" + entry("[2]", "[0,8]", "C64") + "}", 8)),
                 "tensor 'a': dtype C64 is not supported"));
}

TEST_CASE("a header that nests 100,000 levels is refused without recursion") {
  const int levels = 100'000;
  std::string lists, objects;
  for (int i = 0; i < levels; ++i) lists += '[', objects += R"({"a":)";
  CHECK(contains(error_for(file_of(R"({"a":{"shape":)" + lists, 0)), "tensor 'a'"));
  CHECK(contains(error_for(file_of(objects, 0)), "tensor 'a'"));
}

TEST_CASE("empty files and trailing spaces are legal") {
  const TemporaryFolder folder;
  put(folder / "a", file_of("{}   ", 0));
  CHECK(Safetensors::open(folder / "a").names().empty());
  put(folder / "b",
      file_of(R"({"a":)" + entry("[]", "[0,4]") + R"(,"e":)" + entry("[0]", "[4,4]") + "}", 4));
  CHECK(Safetensors::open(folder / "b").tensor("a").item() == 0);
  CHECK(Safetensors::open(folder / "b").tensor("e").numel() == 0);
}

TEST_CASE("any byte flipped or missing gives a value or an error, never more") {
  const TemporaryFolder folder;
  std::string bytes;
  write_safetensors([&](const void* data, size_t n) { bytes.append((const char*)data, n); },
                    sample(), {{"a", "b"}});
  const auto open_all = [&](const std::string& content) {
    put(folder / "a", content);
    try {
      const Safetensors file = Safetensors::open(folder / "a");
      for (const std::string& name : file.names()) file.tensor(name);
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::checkpoint);
      return false;
    }
    return true;
  };
  for (size_t i = 0; i < bytes.size(); ++i)
    for (int bit : {0, 3, 7}) {
      std::string damaged = bytes;
      damaged[i] = char(damaged[i] ^ (1 << bit));
      open_all(damaged);
    }
  for (size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(open_all(bytes.substr(0, length)));
}

TEST_CASE("golden files are read") {
  const std::filesystem::path golden = shared("golden");
  if (golden.empty()) return;
  int files = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(golden)) {
    if (item.path().extension() != ".safetensors") continue;
    const Safetensors file = Safetensors::open(item.path());
    CHECK_FALSE(file.names().empty());
    for (const std::string& name : file.names())
      CHECK(file.tensor(name).shape() == file.shape(name));
    ++files;
  }
  CHECK(files > 10);
}
