#include "data/class_names.h"

#include <algorithm>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;
using test::contains;

TEST_CASE("class order: by bytes as torchvision, or naturally as timm") {
  ClassNames names{"b", "10", "B2", "2", "b10", "1", "a\\xff", "b2"};
  sort_classes(names, ClassOrder::name);
  CHECK(names == ClassNames{"1", "10", "2", "B2", "a\\xff", "b", "b10", "b2"});
  sort_classes(names, ClassOrder::natural);
  CHECK(names == ClassNames{"1", "2", "10", "a\\xff", "b", "B2", "b2", "b10"});
  ClassNames large{"20000000000000000000000", "3", "007", "7"};
  sort_classes(large, ClassOrder::natural);
  CHECK(large == ClassNames{"3", "007", "7", "20000000000000000000000"});
  CHECK(parse_class_order("natural") == ClassOrder::natural);
  const auto error = test::error_of(ExitCode::usage, [] { parse_class_order("alphabetical"); });
  CHECK(contains(error, "--class-order"));
}

TEST_CASE("class maps: a name per line, or names with indices") {
  const test::TemporaryFolder folder;
  const auto read = [&](const std::string& text) {
    test::put(folder / "map.txt", text);
    return read_class_map((folder / "map.txt").string());
  };
  CHECK(read("dog\ncat\r\n\n") == ClassNames{"dog", "cat"});
  CHECK(read("\xEF\xBB\xBF"
             "dog\ncat\n") == ClassNames{"dog", "cat"});
  CHECK(read("great white shark\ncaf\xe9") == ClassNames{"great white shark", "caf\\xe9"});
  CHECK(read("cat 1\ndog\t0\nowl barn 2\n") == ClassNames{"dog", "cat", "owl barn"});
  CHECK(read("10\n2\n") == ClassNames{"10", "2"});
  // Not the indices 0 to n - 1, or a name twice: they are names.
  CHECK(read("block 1\nblock 2\n") == ClassNames{"block 1", "block 2"});
  CHECK(read("block 0\nblock 1\n") == ClassNames{"block 0", "block 1"});
  const auto error = [&](const std::string& text) {
    return test::error_of(ExitCode::data, [&] { read(text); });
  };
  CHECK(contains(error("cat\ndog\ncat\n"), "'cat' occurs twice"));
  CHECK(contains(error("cat\n\ndog\n"), "line 2"));
  CHECK(contains(error("\n"), "found none"));
}

TEST_CASE("class maps of JSON: as torchvision, timm and Hugging Face write them") {
  const test::TemporaryFolder folder;
  const auto read = [&](const std::string& text) {
    test::put(folder / "map.json", text);
    return read_class_map((folder / "map.json").string());
  };
  const ClassNames expected{"dog", "cat", "10"};
  CHECK(read(R"(["dog", "cat", "10"])") == expected);
  CHECK(read("{\n  \"10\": 2,\n  \"cat\": 1,\n  \"dog\": 0\n}\n") == expected);
  CHECK(read(R"({"0": "dog", "1": "cat", "2": "10"})") == expected);
  const auto error = [&](const std::string& text) {
    return test::error_of(ExitCode::data, [&] { read(text); });
  };
  CHECK(contains(error(R"({"cat": 1, "dog": 2})"), "'dog': expected"));
  CHECK(contains(error(R"({"cat": 0, "dog": 0})"), "'dog': expected"));
  CHECK(contains(error(R"([1, 2])"), "found 1"));
  CHECK(contains(error(R"(["cat", "cat"])"), "'cat' occurs twice"));
  CHECK(contains(error("{}"), "found none"));
  CHECK(contains(error("[\"cat\","), "map.json"));
}

TEST_CASE("titles of classes, in each of the usual files") {
  const test::TemporaryFolder folder;
  const auto titles = [&](const std::string& name, const std::string& text) {
    test::put(folder / name, text);
    const ClassTitles found = find_class_titles(folder.path().string());
    CHECK(read_class_titles((folder / name).string()) == found);
    std::filesystem::remove(folder / name);
    return found;
  };
  const ClassTitles expected{{"n01440764", "tench, Tinca tinca"}, {"n01443537", "goldfish"}};
  CHECK(titles("LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n") ==
        expected);
  CHECK(titles("synset_words.txt", "n01440764\ttench, Tinca tinca\r\nn01443537 goldfish") ==
        expected);
  CHECK(titles("imagenet_class_index.json",
               R"({"0": ["n01440764", "tench, Tinca tinca"], "1": ["n01443537", "goldfish"]})") ==
        expected);
  CHECK(find_class_titles(folder.path().string()).empty());
  // Nobody asked for the titles of a folder: a file that is something else is passed over.
  for (const char* odd : {"n01440764 tench\nodd\n", "{\"0\": 1}", "{"}) {
    test::put(folder / "LOC_synset_mapping.txt", odd);
    CHECK(find_class_titles(folder.path().string()).empty());
    test::put(folder / "synset_words.txt", "n01443537 goldfish\n");
    CHECK(find_class_titles(folder.path().string()).size() == 1);
    std::filesystem::remove(folder / "synset_words.txt");
  }
  std::filesystem::remove(folder / "LOC_synset_mapping.txt");
  CHECK(titled("n01443537", expected) == "goldfish (n01443537)");
  CHECK(titled("cat", expected) == "cat");
  test::put(folder / "a.json", R"({"0": 1})");
  CHECK(contains(
      test::error_of(ExitCode::data, [&] { read_class_titles((folder / "a.json").string()); }),
      "'0'"));
}

TEST_CASE("names in NFC and NFD look the same; other accents do not") {
  const auto pairs =
      look_alikes({"caf\xc3\xa9", "cafe\xcc\x81", "cafe", "caf\xc3\xa8", "\xed\x95\x9c",
                   "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "th\xc3\xa9", "\xe7\x8a\xac"});
  using Pair = std::pair<std::string, std::string>;
  REQUIRE(pairs.size() >= 2);
  CHECK(std::ranges::find(pairs, Pair("caf\xc3\xa9", "cafe\xcc\x81")) != pairs.end());
  CHECK(std::ranges::find(pairs, Pair("\xed\x95\x9c", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab")) !=
        pairs.end());
  CHECK(look_alikes({"caf\xc3\xa9", "caf\xc3\xa8", "cafe", "th\xc3\xa9"}).empty());
}
