#include "core/text.h"

#include <doctest/doctest.h>

using namespace sg;

TEST_CASE("names of bytes are written as UTF-8, and come back") {
  CHECK(escape_name("caf\xe9") == "caf\\xe9");
  CHECK(escape_name("caf\xc3\xa9 \xe7\x8a\xac \xf0\x9f\x90\x95") ==
        "caf\xc3\xa9 \xe7\x8a\xac \xf0\x9f\x90\x95");
  CHECK(escape_name("a\\b\\xE9\\xg1") == "a\\b\\xE9\\xg1");
  CHECK(escape_name("caf\\xe9") == "caf\\x5cxe9");  // what looks like an escape is none
  // Too long a form, a surrogate, beyond the last character, cut short.
  CHECK(escape_name("\xc0\x80") == "\\xc0\\x80");
  CHECK(escape_name("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(escape_name("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(escape_name("\xe7\x8a") == "\\xe7\\x8a");
  for (const char* name :
       {"", "cat", "caf\xe9", "caf\\xe9", "\\\xe9", "\\x5", "\\x5\x8c", "\\\\x5c\\xff", "\xff\xfe"})
    CHECK(unescape_name(escape_name(name)) == name);
  // A message may hold names that are escaped already.
  CHECK(escape_odd_bytes("caf\\xe9 in d\xe9") == "caf\\xe9 in d\\xe9");
}

TEST_CASE("did_you_mean: slips of the finger, beginnings, upper case, and nothing far-fetched") {
  const std::vector<std::string> flags{"--seed",         "--lr",   "--data",  "--epochs",
                                       "--weight-decay", "--mean", "--model", "--model-ema-decay"};
  const auto suggested = [&](std::string_view word) {
    const std::string text = did_you_mean(word, flags);
    return text.empty() ? text : text.substr(16, text.size() - 18);  // ; did you mean '...'?
  };
  CHECK(suggested("--epoch") == "--epochs");
  CHECK(suggested("--spee") == "");
  CHECK(suggested("--sede") == "--seed");  // letters exchanged are one error
  CHECK(suggested("--weight_decay") == "--weight-decay");
  CHECK(suggested("--weigth-decya") == "--weight-decay");
  CHECK(suggested("--model-ema") == "--model-ema-decay");
  CHECK(suggested("--MODEL") == "--model");
  for (const char* far : {"--wd", "--sched", "--aa", "--opt", "--x", "--", "", "--zzzzzz"}) {
    CAPTURE(far);
    CHECK(suggested(far) == "");
  }
  CHECK(did_you_mean("SGFormer_S", {"sgformer_m", "sgformer_s"}) == "; did you mean 'sgformer_s'?");
  CHECK(did_you_mean(std::string(1 << 20, 'a'), flags) == "");
}

TEST_CASE("numbers are decimal and whole texts") {
  CHECK(parse_integer("010") == 10);
  CHECK(parse_integer("08") == 8);
  CHECK(parse_integer("-3") == -3);
  for (const char* wrong : {"", "0x10", "8x", " 8", "8 ", "1e3", "1.0", "99999999999999999999"}) {
    CAPTURE(wrong);
    CHECK(!parse_integer(wrong));
  }
  CHECK(parse_number("1e-3") == 1e-3);
  CHECK(parse_number("010") == 10);
  for (const char* wrong : {"", "fast", "1e-3x", "0x1p3", "1,5"}) {
    CAPTURE(wrong);
    CHECK(!parse_number(wrong));
  }
}

TEST_CASE("image sizes: one side, or height and width") {
  CHECK(parse_image_size("224") == ImageSize(224, 224));
  CHECK(parse_image_size("320x256") == ImageSize(320, 256));
  CHECK(parse_image_size("320 256") == ImageSize(320, 256));
  for (const char* wrong : {"", "x", "320x", "x256", "320x256x3", "a", "320X256", "9999999999"}) {
    CAPTURE(wrong);
    CHECK(!parse_image_size(wrong));
  }
  for (const ImageSize size : {ImageSize(28), ImageSize(320, 256)})
    CHECK(parse_image_size(str(size)) == size);
}
