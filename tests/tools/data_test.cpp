// Data sets as users have them, through the programs. The archives are those of shared/cases.
#include "core/text.h"
#include "io/checkpoint.h"
#include "tests/tools/runs.h"

namespace sg {

namespace fs = std::filesystem;
using namespace test;

namespace {

// shared/cases/folders/<name>, unpacked; empty where it is not there.
fs::path unpacked(const std::string& name, const std::string& end, const fs::path& into) {
  const fs::path archive = shared("cases/folders/" + name + end);
  if (archive.empty()) return {};
  fs::create_directories(into);
  REQUIRE(std::system(
              fmt::format("tar -xf '{}' -C '{}'", archive.string(), into.string()).c_str()) == 0);
  return into / name;
}

// sgtrain() of runs.h with paths of any bytes.
Ran train(const fs::path& data, const fs::path& output, const std::string& more = "") {
  return run_program(
      sgtrain("'" + data.string() + "'", "'" + output.string() + "'", "-b 4 " + more));
}

bool is_utf8(const fs::path& file) {
  const std::string text = read_file(file);
  return escape_odd_bytes(text) == text;
}

// Classes a and b with `count` images each.
void write_classes(const fs::path& folder, int count) {
  for (const char* name : {"a", "b"}) {
    fs::create_directories(folder / name);
    for (int i = 0; i < count; ++i)
      put(folder / name / fmt::format("{}.png", i), png_image(28, 28));
  }
}

}  // namespace

TEST_CASE("names that are not UTF-8: trained on, resumed, evaluated, predicted") {
  const TemporaryFolder folder;
  const fs::path data = unpacked("latin1_names", ".tar", folder / "d\xe9p\xf4t"),
                 out = folder / "r\xe9sultat";
  if (data.empty()) return;
  const auto first = train(data, out, "--max-steps 1");
  REQUIRE_MESSAGE(first.code == 0, first.err);
  // All of the run from its args.json, the path of the data among it.
  const auto again = run_program(fmt::format("sgtrain --config '{}' --resume auto --max-steps 0",
                                             (out / "args.json").string()));
  REQUIRE_MESSAGE(again.code == 0, again.err);
  CHECK(contains(again.out, "resuming from"));
  for (const char* file : {"args.json", "train.log", "report.html", "summary.csv", "metrics.jsonl"})
    CHECK_MESSAGE(is_utf8(out / file), file);
  CHECK(contains(read_file(out / "report.html"), "caf\\xe9"));
  const fs::path checkpoint = out / "checkpoints/last.safetensors";
  CHECK(checkpoint_state(checkpoint)["classes"] == nlohmann::json{"caf\\xe9", "th\\xe9"});

  const auto evaluated =
      run_program(fmt::format("sgeval --device cpu --data '{}' --checkpoint '{}' --json",
                              data.string(), checkpoint.string()));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(evaluated.json()["images"] == 4);
  CHECK(contains(evaluated.json()["checkpoint"].get<std::string>(), "r\\xe9sultat"));
  const auto predicted =
      run_program(fmt::format("sgpredict --device cpu --checkpoint '{}' --json '{}'",
                              checkpoint.string(), (data / "val/caf\xe9/\xe9t\xe9.jpg").string()));
  REQUIRE_MESSAGE(predicted.code == 0, predicted.err);
  CHECK(contains(predicted.json()[0]["image"].get<std::string>(), "caf\\xe9/\\xe9t\\xe9.jpg"));
  CHECK(contains(predicted.json()[0]["classes"].dump(), "th\\\\xe9"));
}

TEST_CASE("junk, formats and lacking classes of a data set") {
  const TemporaryFolder folder;
  const auto trained = [&](const std::string& name, const std::string& expected) {
    const fs::path data = unpacked(name, ".tar", folder.path());
    if (data.empty()) return;
    const auto ran = train(data, folder / (name + "_out"), "--epochs 1");
    INFO(name);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(contains(ran.out, expected));
    CHECK_FALSE(contains(ran.out, "left out"));
    CHECK_FALSE(contains(ran.err, "skipped"));
  };
  trained("hidden_and_junk", "10 training and 4 validation images");
  trained("mixed_formats", "14 training and 2 validation images");
  trained("val_lacks_a_class", "no images of 1 of 4 classes: b");
  trained("val_empty_class", "no images of 1 of 4 classes: b");
}

TEST_CASE("lists of images and labels: trained on, and judged on again from the checkpoint") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_classes(data, 12);
  std::string train_list = "# path label\r\ngone.png 0\r\n", val_list = "a/9.png 0\nb/9.png 1\n";
  for (int i = 0; i < 8; ++i) train_list += fmt::format("a/{0}.png 0\r\nb/{0}.png 1\r\n", i);
  put(data / "train.txt", train_list), put(data / "val.txt", val_list);
  const auto ran =
      train(data, out, "--epochs 1 --train-split train.txt --val-split val.txt --no-listing-cache");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "17 training and 2 validation images"));
  CHECK(contains(ran.out + ran.err, "skipped, 1 so far: " + (data / "gone.png").string()));
  CHECK(checkpoint_state(out / "checkpoints/last.safetensors")["classes"] ==
        nlohmann::json{"0", "1"});
  const auto evaluate = [&](const std::string& more) {
    return run_program(fmt::format("sgeval --device cpu --data '{}' --checkpoint '{}' --json {}",
                                   data.string(), out.string(), more));
  };
  const auto evaluated = evaluate("");
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(evaluated.json()["images"] == 2);
  put(folder / "other.txt", "a/1.png 0\nb/1.png 1\nb/2.png 2\n");
  const auto wrong = evaluate("--val-split '" + (folder / "other.txt").string() + "'");
  CHECK(wrong.code == 3);
  CHECK(contains(wrong.err, "other.txt: line 3: label '2': expected one of 2 classes, 0, 1"));
}

TEST_CASE("weights alone count classes as timm does, and it is said") {
  const TemporaryFolder folder;
  const fs::path data = unpacked("numeric_names", ".tar.xz", folder.path());
  if (data.empty()) return;
  fs::path weights;
  for (const auto& item : fs::recursive_directory_iterator(data))
    if (item.path().extension() == ".pth") weights = item.path();
  const auto evaluate = [&](const std::string& more) {
    return run_program(
        fmt::format("sgeval --device cpu --model sgformer_nano --data {} --checkpoint {} {}",
                    data.string(), weights.string(), more));
  };
  const auto natural = evaluate("");
  REQUIRE_MESSAGE(natural.code == 0, natural.err);
  CHECK(contains(natural.out, "Acc@1 20.000"));
  CHECK(contains(natural.out, "class order: natural, as timm counts"));
  CHECK(contains(evaluate("--class-order name").out, "Acc@1 4.000"));
  // A map: class 10 is last, so the model's answer 10 means another.
  std::string map;
  for (int i = 0; i < 21; ++i) map += fmt::format("{}\n", i == 10 ? 20 : i == 20 ? 10 : i);
  put(folder / "map.txt", map);
  const auto mapped = evaluate("--class-map " + (folder / "map.txt").string());
  CHECK(contains(mapped.out, "Acc@1 4.000"));
  CHECK_FALSE(contains(mapped.out, "class order"));
}

TEST_CASE("class maps and readable names, in a run and in its checkpoint") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_classes(data / "train", 4), write_classes(data / "val", 2);
  put(folder / "map.txt", "b\na\n");
  put(data / "synset_words.txt", "a apple, fruit\nz zebra\n");
  const std::string map = "--class-map " + (folder / "map.txt").string();
  const auto ran = train(data, out, "--epochs 1 " + map);
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const fs::path checkpoint = out / "checkpoints/last.safetensors";
  CHECK(checkpoint_state(checkpoint)["classes"] == nlohmann::json{"b", "a"});
  CHECK(contains(read_file(out / "report.html"), "apple, fruit (a)"));
  const auto predict = [&](const std::string& more) {
    return run_program(fmt::format("sgpredict --device cpu --checkpoint {} {} {}",
                                   checkpoint.string(), (data / "val/a/0.png").string(), more));
  };
  CHECK(contains(predict("").out, "apple, fruit (a)"));
  put(folder / "names.json", R"({"b": "beetle"})");
  CHECK(contains(predict("--class-names " + (folder / "names.json").string()).out, "beetle (b)"));
  put(folder / "map.txt", "a\nb\n");
  const auto other = predict(map);
  CHECK(other.code == 2);
  CHECK(contains(other.err, "the checkpoint knows its classes"));
}

TEST_CASE("a run without val/ holds a share out, the same when it is resumed and evaluated") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_classes(data, 8);
  CHECK(contains(train(data, out).err, "--val-share"));
  const auto ran = train(data, out, "--val-share 0.25 --seed 3 --max-steps 2");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "4 of the 16 training images"));
  CHECK(contains(ran.out, "12 training and 4 validation images"));
  const auto more = train(data, out, "--val-share 0.25 --seed 3 --resume auto");
  REQUIRE_MESSAGE(more.code == 0, more.err);
  const auto evaluated = run_program(
      fmt::format("sgeval --device cpu --data {} --checkpoint {} --val-share 0.25 --seed 3 --json",
                  data.string(), (out / "checkpoints/last.safetensors").string()));
  REQUIRE_MESSAGE(evaluated.code == 0, evaluated.err);
  CHECK(evaluated.json()["images"] == 4);
  const std::string summary = read_file(out / "summary.csv");
  CHECK(contains(summary, fmt::format(",{},{}\n", evaluated.json()["top1"].dump(),
                                      evaluated.json()["top5"].dump())));
  // Without flags the checkpoint says which images are held out.
  const auto evaluate = [&](const fs::path& from, const std::string& flags) {
    const auto e =
        run_program(fmt::format("sgeval --device cpu --data {} --checkpoint {} {}", from.string(),
                                (out / "checkpoints/last.safetensors").string(), flags));
    REQUIRE_MESSAGE(e.code == 0, e.err);
    return e;
  };
  const std::string own = (folder / "own.json").string(), given = (folder / "given.json").string();
  const auto said = evaluate(data, "--results-file " + own);
  CHECK(contains(said.out, "the run held out (--val-share 0.25 --seed 3)"));
  CHECK(!contains(said.err, "warning"));
  evaluate(data, "--val-share 0.25 --seed 3 --results-file " + given);
  CHECK(read_file(own) == read_file(given));
  evaluate(data, "--val-share 0.25 --results-file " + given);  // the seed is the run's
  CHECK(read_file(own) == read_file(given));
  const auto all = evaluate(data, "--val-share 0 --json");
  CHECK(all.json()["images"] == 16);
  CHECK(contains(all.err, "warning: --val-share 0: "));
  CHECK(contains(evaluate(data, "--seed 4").err, "warning: --seed 4: "));
  // Data with a validation set of its own is evaluated on that.
  write_classes(folder / "other/val", 3);
  CHECK(evaluate(folder / "other", "--json").json()["images"] == 6);
}

TEST_CASE("images removed: a run goes on after an epoch; within one only when told") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data";
  const auto begin = [&](const fs::path& out, const std::string& more) {
    fs::remove_all(data);
    write_classes(data / "train", 8), write_classes(data / "val", 2);  // 4 steps
    const auto ran = train(data, out, more);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    for (const char* name : {"a/1.png", "a/2.png", "b/7.png", "b/6.png", "b/0.png"})
      fs::remove(data / "train" / name);  // 2 steps of what is left
  };
  begin(folder / "whole", "--epochs 3 --max-steps 4");
  const auto whole = train(data, folder / "whole", "--epochs 3 --resume auto");
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  CHECK(contains(whole.err, "had 16 images and has 11 now; epoch 1 is complete"));
  const auto state = checkpoint_state(folder / "whole/checkpoints/last.safetensors");
  CHECK(state["step"] == 4 + 2 + 2);
  CHECK(state["epoch"] == 2);

  begin(folder / "within", "--max-steps 5");
  const auto refused = train(data, folder / "within", "--resume auto");
  CHECK(refused.code == 4);
  CHECK(contains(refused.err, "had 16 images and has 11 now"));
  CHECK(contains(refused.err, "--accept-data-change"));
  const auto within = train(data, folder / "within", "--resume auto --accept-data-change");
  REQUIRE_MESSAGE(within.code == 0, within.err);
  CHECK(contains(within.err, "epoch 2 begins again"));
  CHECK(checkpoint_state(folder / "within/checkpoints/last.safetensors")["step"] == 5 + 2);
}

TEST_CASE("more broken images than --max-broken-share end a program") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_classes(data / "train", 8), write_classes(data / "val", 4);
  REQUIRE(train(data, out, "--epochs 1").code == 0);
  put(data / "val/a/0.png", "broken");
  const auto evaluate = [&](const std::string& share) {
    return run_program(
        fmt::format("sgeval --device cpu --data {} --checkpoint {} --max-broken-share {}",
                    data.string(), (out / "checkpoints/last.safetensors").string(), share));
  };
  const auto ended = evaluate("0");
  CHECK(ended.code == 3);
  CHECK(contains(ended.err, "1 of 8 images are broken, 0 are allowed (--max-broken-share 0)"));
  CHECK(evaluate("0.2").code == 0);
}

}  // namespace sg
