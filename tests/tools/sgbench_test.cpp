#include "io/tar.h"
#include "tests/tools/programs.h"

namespace sg {

TEST_CASE("sgbench: its numbers, and the promise that a step asks the system for no memory") {
  for (const std::string mode : {"infer", "train"}) {
    CAPTURE(mode);
    const auto ran = test::run_program(
        "sgbench --device cpu --model sgformer_nano --batch 2 --repeats 3 --ops --json --mode " +
        mode);
    REQUIRE(ran.code == 0);
    const nlohmann::json j = ran.json();
    for (const char* key :
         {"images_per_second", "step_seconds", "spread", "peak_memory_bytes", "peak_rss_bytes",
          "roofline_share", "model", "mode", "batch", "threads"})
      CHECK_MESSAGE(j.contains(key), key);
    CHECK(j["images_per_second"] > 0);
    CHECK(j["cpu_seconds"] > 0);
    CHECK(j["steady_allocations"] == 0);
    CHECK(j["ops"].size() > 5);
    CHECK(j["ops"][0]["slow_calls"] == 0);  // which are CUDA's
  }
}

TEST_CASE("sgbench: segmentation of both heads, on sides that are no multiples of 32") {
  struct Case {
    std::string head, mode, dtype;
  };
  std::vector<Case> cases{{"semantic_fpn", "infer", "f32"},
                          {"semantic_fpn", "train", "f32"},
                          {"upernet", "infer", "bf16 --emulate-bf16 --threads 1"},
                          {"upernet", "train", "f32"}};
  if (test::have_cpu_bf16()) cases.push_back({"upernet", "train", "bf16 --threads 1"});
  for (const auto& [head, mode, dtype] : cases) {
    CAPTURE(head);
    CAPTURE(mode);
    CAPTURE(dtype);
    const auto ran = test::run_program(
        "sgbench --device cpu --task segmentation --model sgformer_nano --num-classes 5 --batch "
        "2 "
        "--img-size 33x70 --repeats 2 --ops --no-roofline --json --mode " +
        mode + " --head " + head + " --dtype " + dtype);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    const nlohmann::json j = ran.json();
    CHECK(j["model"] == "sgformer_nano with " + head);
    CHECK(j["img_size"] == "33x70");
    CHECK(j["dtype"] == dtype.substr(0, dtype.find(' ')));
    CHECK(j["steady_allocations"] == 0);
    const auto has = [&](const std::string& op) {
      return std::ranges::any_of(j["ops"], [&](const auto& row) { return row["name"] == op; });
    };
    CHECK(has("resized_argmax") == (mode == "infer"));
    CHECK(has("pixel_cross_entropy.bwd") == (mode == "train"));
  }
  const auto ran = test::run_program("sgbench --device cpu --head upernet");
  CHECK(ran.code == 2);
  CHECK(ran.err.find("--head: of --task segmentation") != std::string::npos);
}

TEST_CASE("sgbench: with guards behind blocks, nothing is found and none is asked of the system") {
  setenv("SG_ALLOCATOR_GUARD", "64", 1);
  const auto ran = test::run_program(
      "sgbench --device cpu --model sgformer_nano --batch 2 --repeats 3 --json --mode train "
      "--no-roofline");
  unsetenv("SG_ALLOCATOR_GUARD");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(ran.json()["steady_allocations"] == 0);
  CHECK(ran.err.find("info: cpu: SG_ALLOCATOR_GUARD") != std::string::npos);
}

TEST_CASE("sgbench: augmentation, a row per operation and filter") {
  const auto ran = test::run_program("sgbench --mode augment --img-size 32 --json");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(ran.json()["img_size"] == "32");
  const nlohmann::json rows = ran.json()["ops"];
  CHECK(rows.size() == 10 + 2 * 5 + 1);
  for (const auto& row : rows) CHECK_MESSAGE(row["seconds"] > 0, row["name"]);
}

TEST_CASE("sgbench: the images of a folder are listed and counted") {
  const test::TemporaryFolder folder;
  for (const char* name : {"train/a", "train/b"}) {
    std::filesystem::create_directories(folder / name);
    test::put(folder / name / "1.png", "");
  }
  const auto ran = test::run_program("sgbench --mode listing --no-listing-cache --json --data " +
                                     folder.path().string());
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const nlohmann::json j = ran.json();
  CHECK(j["images"] == 2);
  CHECK(j["classes"] == 2);
  CHECK(j["seconds"] > 0);
  CHECK(j["peak_rss_bytes"] > 1'000'000);
}

TEST_CASE("sgbench: shards alone, by their pattern, and a folder of classes") {
  const test::TemporaryFolder data;
  write_file(data / "a.tar", tar_header("1.png", 3) + "png" + tar_padding(3) +
                                 tar_header("1.cls", 1) + "0" + tar_padding(1) + tar_end());
  std::filesystem::create_directories(data / "in/cat");
  write_file(data / "in/cat/1.png", "");
  for (const char* place : {"*.tar", "in"}) {
    const auto ran = test::run_program("sgbench --mode listing --json --no-listing-cache --data '" +
                                       (data / place).string() + "'");
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(ran.json()["images"] == 1);
  }
}

TEST_CASE("sgbench: the loader, by its parts; and its memory, which stays flat") {
  const test::TemporaryFolder data;
  for (const char* name : {"cat", "dog"})
    std::filesystem::create_directories(data / "train" / name);
  for (const char* name : {"train/cat/1.png", "train/cat/2.png", "train/dog/3.png"})
    write_file(data / name, test::png_image(40, 50));
  write_file(data / "train/dog/broken.png", test::png_image(40, 50).substr(0, 60));
  const std::string of_data = " --img-size 32 --json --data " + data.path().string();
  const auto ran = test::run_program("sgbench --mode loader" + of_data);
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const nlohmann::json j = ran.json();
  CHECK(j["read_seconds"] > 0);
  CHECK(j["decode_seconds"] > 0);
  CHECK(j["images_per_second"] > 0);
  CHECK(j["images_per_second_without_aa"] > 0);
  CHECK(j["broken"].get<int>() * 3 == doctest::Approx(j["images"].get<int>()).epsilon(0.02));

  const auto memory = test::run_program(
      "sgbench --mode loader-memory --batches 3000 --batch-size 2 --workers 2" + of_data);
  REQUIRE_MESSAGE(memory.code == 0, memory.err);
  const nlohmann::json rows = memory.json()["memory"];
  REQUIRE(rows.size() == 5);  // 1, 10, 100, 1000, 3000
  CHECK(rows[4]["batches"] == 3000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these keep what is freed
  // 5800 images are decoded between; a leak of 200 bytes an image would show.
  CHECK(rows[4]["resident_bytes"].get<double>() < rows[2]["resident_bytes"].get<double>() + 1.2e6);
#endif
}

TEST_CASE("sgbench: wrong arguments") {
  CHECK(test::run_program("sgbench --device cpu --model sgformer_nano --batch 0").code == 2);
  CHECK(test::run_program("sgbench --mode sleep").code == 2);
  CHECK(test::run_program("sgbench --dtype f12").code == 2);
  // Flags that a mode would pass over.
  for (const char* flags :
       {"loader --device cpu", "loader --batch-size 4", "loader --model sgformer_s",
        "loader --img-size 32", "loader --data x --batches 5", "infer --aa none",
        "train --workers 1", "augment --data x", "augment --dtype f32", "augment --img-size 32x48",
        "infer --data x", "augment --task segmentation", "infer --no-listing-cache",
        "loader --data x --no-listing-cache", "listing --data x --img-size 32", "listing"}) {
    const auto ran = test::run_program(std::string("sgbench --mode ") + flags);
    CHECK_MESSAGE(ran.code == 2, flags);
    CHECK_MESSAGE(ran.err.find("--mode ") != std::string::npos, ran.err);
  }
}

}  // namespace sg
