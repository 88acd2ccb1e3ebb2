#include "io/pth.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "io/safetensors.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_literals;
namespace fs = std::filesystem;

namespace {

void check_equal(const Tensor& found, const Tensor& expected) {
  REQUIRE(found.numel() == expected.numel());
  const auto a = to_vector<double>(found), b = to_vector<double>(expected);
  CHECK(a == b);
}

// u of golden/README.md, "Weights and inputs by formula".
double uniform(const std::string& key, uint64_t i) {
  uint64_t h = 0xcbf29ce484222325;
  for (unsigned char c : key) h = (h ^ c) * 0x100000001b3;
  uint64_t z = h + (i + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  z = z ^ (z >> 31);
  return double(z >> 40) / (1 << 23) - 1;
}

float weight(const std::string& name, const Shape& shape, uint64_t i) {
  const float u = float(uniform("pth/" + name, i));
  if (name == "pos_embed") return 0.5f * u;
  if (shape.size() == 1) return name.ends_with("weight") ? 1 + 0.2f * u : 0.1f * u;
  const double fan_in = double(shape.numel()) / double(shape[0]);
  return u * float(std::sqrt(3 / fan_in));
}

// The stream form around one pickle of an object and no storages.
std::string stream_of(const std::string& pickle) {
  return std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15) +
         std::string("\x80\x02M\xe9\x03.", 6) + "\x80\x02}." + "\x80\x02" + pickle + "." +
         "\x80\x02].";
}

std::string text(const std::string& s) {
  std::string out = "X" + std::string(4, '\0') + s;
  const uint32_t n = uint32_t(s.size());
  std::memcpy(out.data() + 1, &n, 4);
  return out;
}

std::string error_for(const std::string& content) {
  const TemporaryFolder folder;
  put(folder / "bad.pth", content);
  const std::string message = error_of(ExitCode::checkpoint, [&] {
    const Pth file = Pth::open(folder / "bad.pth");
    for (const std::string& name : file.names()) file.tensor(name);
  });
  CHECK(contains(message, "bad.pth"));
  return message;
}

}  // namespace

TEST_CASE("other dtypes, strides, views and containers of both forms are read") {
  const fs::path golden = shared("golden/pth");
  if (golden.empty()) return;
  const Safetensors expected = Safetensors::open(golden / "odd_tensors.expected.safetensors");
  for (const char* form : {"odd_tensors.pth", "odd_tensors_legacy.pth"}) {
    CAPTURE(form);
    const Pth file = Pth::open(golden / form);
    for (const std::string& name : expected.names()) {
      CAPTURE(name);
      REQUIRE(file.contains(name));
      CHECK(file.shape(name).numel() == expected.shape(name).numel());
      check_equal(file.tensor(name), expected.tensor(name));
    }
    CHECK(file.names().size() == expected.names().size() + 1);
    CHECK(file.contains("nested.a.0"));
    CHECK(file.shape("scalar") == Shape{});
    CHECK(file.shape("transposed") == Shape{6, 4});
    CHECK(file.dtype("half") == Dtype::f32);
    CHECK(file.dtype("bf16") == Dtype::bf16);
    CHECK(contains(error_of(ExitCode::checkpoint, [&] { file.tensor("x"); }), "no tensor 'x'"));
  }
  CHECK(contains(error_of(ExitCode::checkpoint,
                          [&] { Pth::open(golden / "odd_tensors.expected.safetensors"); }),
                 "expected a file of torch.save, found a safetensors file"));
}

TEST_CASE("every weight of a timm checkpoint has the value of the formula") {
  const fs::path golden = shared("golden/pth");
  if (golden.empty()) return;
  const std::pair<const char*, const char*> files[] = {{"timm_zip.pth", "state_dict."},
                                                       {"timm_zip.pth", "state_dict_ema."},
                                                       {"timm_legacy.pth.tar", "state_dict."},
                                                       {"timm_legacy.pth.tar", "state_dict_ema."},
                                                       {"ddp_bare.pth", "module."}};
  for (const auto& [name, prefix] : files) {
    const Pth file = Pth::open(golden / name);
    const float scale = std::string_view(prefix) == "state_dict_ema." ? 0.5f : 1;
    size_t tensors = 0, wrong = 0;
    for (const std::string& stored : file.names()) {
      if (!stored.starts_with(prefix)) continue;
      const std::string official = stored.substr(std::strlen(prefix));
      const Tensor t = file.tensor(stored);
      for (int64_t i = 0; i < t.numel(); ++i)
        wrong += t.data<float>()[i] != scale * weight(official, t.shape(), uint64_t(i));
      ++tensors;
    }
    CAPTURE(name);
    CHECK(tensors > 200);
    CHECK(wrong == 0);
  }
}

TEST_CASE("lists of texts beside the tensors") {
  const TemporaryFolder folder;
  const std::string one = "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
                          "ctorch\nFloatStorage\n" + text("0") + text("cpu") +
                          "K\1tQK\0K\1\x85K\1\x85\x89}tR"s;
  const std::string meta = "}" + text("CLASSES") + "(" + text("sky") + text("road") + "t" + "s" +
                           text("PALETTE") + "](](K\1K\2K\3ees" + text("deep") + "}" +
                           text("classes") + "](" + text("tree") + "ess";
  std::string bytes = stream_of("}" + text("x") + one + "s" + text("meta") + meta + "s");
  bytes.replace(bytes.rfind("\x80\x02]."), 4, "\x80\x02](" + text("0") + "e.");
  const int64_t count = 1;
  bytes.append(reinterpret_cast<const char*>(&count), sizeof count).append(4, '\0');
  put(folder / "a.pth", bytes);
  const Pth file = Pth::open(folder / "a.pth");
  CHECK(file.names() == std::vector<std::string>{"x"});
  CHECK(file.texts({"meta", "CLASSES"}) == std::vector<std::string>{"sky", "road"});
  CHECK(file.texts({"meta", "deep", "classes"}) == std::vector<std::string>{"tree"});
  CHECK(file.texts({"meta", "PALETTE"}).empty());
  CHECK(file.texts({"meta", "deep"}).empty());
  CHECK(file.texts({"meta", "NOTHING"}).empty());
  CHECK(file.texts({"CLASSES"}).empty());
}

TEST_CASE("nothing is executed, and tricks with pickles are refused") {
  const std::string tensor_call = "ctorch._utils\n_rebuild_tensor_v2\n";
  // os.system("...") stays a node that nobody looks at.
  CHECK(contains(error_for(stream_of("cos\nsystem\n" + text("true") + "\x85R")), "no tensors"));
  CHECK(contains(error_for(stream_of("}" + text("a") + "cos\nsystem\n" + text("x") + "\x85Rs")),
                 "no tensors"));
  CHECK(contains(error_for(stream_of("h\x07")), "memo 7 is empty"));
  CHECK(contains(error_for(stream_of("q\x07")), "stack is empty"));
  CHECK(contains(error_for(stream_of("R")), "stack is empty"));
  CHECK(contains(error_for(stream_of("}(R")), "stack is empty"));
  CHECK(contains(error_for(stream_of("t")), "mark is missing"));
  CHECK(contains(error_for(stream_of("]NNs")), "wrong container"));
  CHECK(contains(error_for(stream_of("}(Nu")), "wrong container"));
  CHECK(contains(error_for(stream_of("NN")), "one value"));
  CHECK(contains(error_for(stream_of("(N")), "one value"));
  CHECK(contains(error_for(stream_of("\x93")), "stack is empty"));
  CHECK(contains(error_for(stream_of("NN\x93")), "the name of a global is no text"));
  // Small files that would become gigabytes: names put together from two in the memo, and one list
  // of tensors that is seen under ever longer names.
  const std::string name(1000, 'n');
  std::string globals = text(name) + "q\x00"s + "0(";
  for (int i = 0; i < 200'000; ++i) globals += "h\x00h\x00\x93"s;
  CHECK(contains(error_for(stream_of(globals + "t")), "more than 256 MB"));
  const std::string storage = "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") +
                              text("cpu") + "K\x01tQ",
                    tensor = tensor_call + "(" + storage + "K\x00(K\x01t(K\x01t"s + "tR";
  std::string list = "(" + tensor + "q\x00"s;
  for (int i = 0; i < 999; ++i) list += "h\x00"s;
  list = "]" + list + "eq\x01"s, list += "0(";
  for (int i = 0; i < 999; ++i) list += text(name.substr(0, 900) + std::to_string(i)) + "h\x01"s;
  CHECK(contains(error_for(stream_of("}" + list + "u")), "too many values"));
  // Extension codes and buffers ask for what is not in the file.
  for (const char opcode : {'\x82', '\x83', '\x84', '\x97', '\x98', 'i', 'o'})
    CHECK(contains(error_for(stream_of(std::string(1, opcode))), "is not supported"));
  CHECK(contains(error_for(stream_of("\x95\xff\xff\xff\xff\xff\xff\xff\xff")), "cut"));
  CHECK(contains(error_for(stream_of("\x8e\xff\xff\xff\xff\xff\xff\xff\xff")), "cut"));
  CHECK(contains(error_for(stream_of("\x8b\xff\xff\xff\xff")), "cut"));
  CHECK(contains(error_for(stream_of("\x91")), "mark is missing"));
  // A byte each, which must not become much memory.
  for (const char opcode : {'\x94', '2', ')'})
    CHECK(contains(error_for(stream_of("N" + std::string(2'100'000, opcode))),
                   "more than 2000000 values"));
  CHECK(contains(error_for(stream_of("](N\x90")), "wrong container"));
  // A list of 100,000 references, from which 100 Counters are made.
  std::string wide = "](", many = "(";
  for (int i = 0; i < 100'000; ++i) wide += "N";
  for (int i = 0; i < 100; ++i) many += "h\2h\1\x85R";
  CHECK(contains(
      error_for(stream_of(wide + "eq\1" + "0ccollections\nCounter\nq\2" + "0" + many + "t")),
      "too many values"));
  // Wrappers around a tensor that are no wrappers, or hold themselves.
  const std::string parameter = "ctorch._utils\n_rebuild_parameter\n";
  for (const std::string& bad :
       std::vector<std::string>{parameter + ")R", parameter + "N\x85R", parameter + "NR",
                                "ctorch._tensor\n_rebuild_from_type_v2\n)R",
                                "ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncx\ny\n)}tR"})
    CHECK(contains(error_for(stream_of("}" + text("a") + bad + "s")), "tensor 'a' cannot be read"));
  CHECK(contains(error_for(stream_of("X\xff\xff\xff\xff")), "cut"));
  CHECK(contains(error_for(stream_of("cnever")), "does not end"));
  CHECK(contains(error_for(stream_of(std::string(100'000, '('))), "too deeply"));
  // A list that holds itself, and one that doubles 40 times.
  CHECK(contains(error_for(stream_of("]q\1h\1a")), "too deeply"));
  std::string doubling = "]q" + std::string(1, '\0');
  for (char i = 0; i < 40; ++i) doubling += std::string("](h") + i + "h" + i + "eq" + char(i + 1);
  CHECK(contains(error_for(stream_of("(" + doubling + "t")), "too many values"));
  CHECK(contains(error_for(stream_of(std::string(1, ')') + std::string(100'000, '\x85'))),
                 "too deeply"));
  CHECK(contains(error_for(stream_of("}" + text("a") + tensor_call + ")Rs")),
                 "tensor 'a' cannot be read: its storage"));
  CHECK(contains(error_for(stream_of("}" + text("a") + tensor_call + "NRs")), "tensor 'a'"));
  CHECK(contains(error_for(stream_of("}" + text("a") + "ctorch._utils\n_rebuild_qtensor\n)Rs")),
                 "tensor 'a' cannot be read: it is made by torch._utils._rebuild_qtensor"));
}

TEST_CASE("a tensor stays within its storage") {
  // One storage of 4 floats; the tensor's offset, sizes and strides vary.
  const auto file = [](const std::string& geometry) {
    const std::string id =
        "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x04tQ";
    std::string s = stream_of("}" + text("a") + "ctorch._utils\n_rebuild_tensor_v2\n(" + id +
                              geometry + "\x89}tRs");
    s.replace(s.size() - 4, 4, "\x80\x02]" + text("0") + "a.");
    s += std::string("\4\0\0\0\0\0\0\0", 8);
    const float values[] = {1, 2, 3, 4};
    return s + std::string(reinterpret_cast<const char*>(values), sizeof values);
  };
  const TemporaryFolder folder;
  const auto read = [&](const std::string& geometry) {
    put(folder / "a.pth", file(geometry));
    return to_vector<float>(Pth::open(folder / "a.pth").tensor("a"));
  };
  const std::string zero(1, '\0');
  CHECK(read("K" + zero + "K\4\x85K\1\x85") == std::vector<float>{1, 2, 3, 4});
  CHECK(read("K\1K\2\x85K\2\x85") == std::vector<float>{2, 4});
  CHECK(read("K\3))") == std::vector<float>{4});
  CHECK(read("K\1K\3\x85K" + zero + "\x85") == std::vector<float>{2, 2, 2});  // expanded
  CHECK(read("K" + zero + "K\2K\2\x86K\1K\2\x86") == std::vector<float>{1, 3, 2, 4});
  CHECK(read("K" + zero + "ctorch\nSize\nK\2\x85\x85RK\1\x85") == std::vector<float>{1, 2});
  const std::string minus = "J\xff\xff\xff\xff", most = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  for (const std::string& bad : std::vector<std::string>{
           "K" + zero + "K\5\x85K\1\x85", std::string("K\4))"), "K\1K\4\x85K\1\x85",
           minus + "K\1\x85K\1\x85", "K" + zero + minus + "\x85K\1\x85",
           "K\3K\2\x85" + minus + "\x85", "K" + zero + "K\2\x85" + most + "\x85",
           "K" + zero + most + "K\2\x86K\1K\1\x86", most + "K\2\x85K\1\x85",
           "K" + zero + "K\2\x85)", "K" + zero + "NN",
           "K" + zero + "(K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1t"})
    CHECK(contains(error_for(file(bad)), "tensor 'a' cannot be read"));
  CHECK(contains(error_for(file("K" + zero + "J\xff\xff\xff\x7f\x85K" + zero + "\x85")),
                 "far more bytes than the file has"));
}

TEST_CASE("a tensor comes out of every call that wraps it, and out of every mapping") {
  const std::string id =
      "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x02tQ";
  const std::string zero(1, '\0'), arguments = "(" + id + "K" + zero + "K\2\x85K\1\x85\x89}t";
  const std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
  const std::string tensor = rebuild + arguments + "R";
  const std::string parameter = "ctorch._utils\n_rebuild_parameter\n(" + tensor + "\x88}tR";
  const std::string from_type = "ctorch._tensor\n_rebuild_from_type_v2\n(";
  const TemporaryFolder folder;
  const auto read = [&](const std::string& object, const std::string& name) {
    std::string s = stream_of(object);
    s.replace(s.size() - 4, 4, "\x80\x02]" + text("0") + "a.");
    const float values[] = {1, 2};
    s += std::string("\2\0\0\0\0\0\0\0", 8);
    put(folder / "a.pth", s + std::string(reinterpret_cast<const char*>(values), sizeof values));
    const Pth file = Pth::open(folder / "a.pth");
    CHECK(file.names() == std::vector<std::string>{name});
    return to_vector<float>(file.tensor(name)) == std::vector<float>{1, 2};
  };
  for (const std::string& call : std::vector<std::string>{
           tensor, parameter,
           "ctorch._utils\n_rebuild_parameter_with_state\n(" + tensor + "\x88}}tR",
           from_type + rebuild + "ctorch\nTensor\n" + arguments + "}tR",
           from_type + rebuild + "cno.such.module\nWeights\n" + arguments + "NtR",
           "ctorch._utils\n_rebuild_parameter\n(" + from_type + rebuild + "cno.such\nW\n" +
               arguments + "}tR\x88}tR"}) {
    CAPTURE(call);
    CHECK(read("}" + text("a") + call + "s", "a"));
  }
  const std::string item = text("a") + tensor;
  const std::string collections = text("collections");
  for (const std::string& mapping : std::vector<std::string>{
           "}" + item + "s", "}(" + item + "u", "ccollections\nOrderedDict\n)R(" + item + "u",
           "ccollections\nOrderedDict\n]](" + item + "ea\x85R",  // Python 2: a list of pairs
           "ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + item + "u",
           "ccollections\nCounter\n}" + item + "s\x85R", "cmylab\nConfig\n)\x81(" + item + "u",
           "cmylab\nConfig\n)}\x92(" + item + "u",
           collections + text("OrderedDict") + "\x93)R(" + item + "u",
           "\x8c\x0b"
           "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94(" +
               item + "u"}) {
    CAPTURE(mapping);
    CHECK(read(mapping, "a"));
  }
  // Beside it values of every other kind, which are inert.
  std::string others;
  for (const std::string& value : std::vector<std::string>{
           std::string("\x8f(K\1\x90"), std::string("(K\1\x91"), std::string("C\2xy"),
           std::string("B\2\0\0\0xy", 7), std::string("\x8e\2\0\0\0\0\0\0\0xy", 11),
           std::string("\x96\2\0\0\0\0\0\0\0xy", 11), std::string("U\2xy"),
           std::string("T\2\0\0\0xy", 7), std::string("\x8d\2\0\0\0\0\0\0\0xy", 11),
           std::string("\x8b\2\0\0\0\1\1", 7),
           std::string("\x8a\x09"
                       "123456789"),
           std::string("N20"), std::string("N(NN1"), "cnumpy.core.multiarray\nscalar\n(NC\2xytR",
           "cargparse\nNamespace\n)\x81}" + text("b") + tensor + "sb"})
    others += text("other") + value;
  CHECK(read("}(" + item + others + "u", "a"));
}

TEST_CASE("damaged files give a value or an error, never more") {
  const fs::path golden = shared("golden/pth");
  if (golden.empty()) return;
  const TemporaryFolder folder;
  std::mt19937 random(1);
  for (const char* form : {"odd_tensors.pth", "odd_tensors_legacy.pth"}) {
    const std::string whole = read_file(golden / form);
    const auto read_all = [&](const std::string& content) {
      put(folder / "a", content);
      try {
        const Pth file = Pth::open(folder / "a");
        for (const std::string& name : file.names()) file.tensor(name);
      } catch (const Error& e) {
        CHECK(e.code() == ExitCode::checkpoint);
        return false;
      }
      return true;
    };
    CHECK(read_all(whole));
    for (size_t i = 0; i < whole.size(); ++i)
      for (int mask : {1, 0xff}) {
        std::string damaged = whole;
        damaged[i] = char(damaged[i] ^ mask);
        read_all(damaged);
      }
    for (size_t length = 0; length < whole.size(); ++length)
      CHECK_FALSE(read_all(whole.substr(0, length)));
    for (int round = 0; round < 3000; ++round) {
      std::string damaged = whole;
      for (int n = 0; n < 8; ++n) damaged[random() % damaged.size()] = char(random());
      read_all(damaged);
    }
  }
}
