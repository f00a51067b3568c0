#include "runtime/safetensors.h"

#include <sys/stat.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SafetensorsBytes;
using testing::SafetensorsWriter;
using testing::TempDir;
constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

absl::StatusOr<SafetensorsFile> Parse(const std::string& bytes) {
  return ParseSafetensors(*MemorySource("x.safetensors", bytes));
}

std::string Zeros(size_t bytes) { return std::string(bytes, '\0'); }

std::vector<float> Values(const QuantizedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.n * matrix.k));
  for (int64_t row = 0; row < matrix.n; ++row) DequantizeRow(matrix.view(), row, values.data() + row * matrix.k);
  return values;
}

std::string OneTensorFile(const char* name, float value) {
  SafetensorsWriter writer;
  writer.AddF32(name, std::vector<int64_t>{1}, std::vector<float>{value});
  return writer.Finish();
}

std::string TwoTensorFile(const char* a, const char* b, float value) {
  SafetensorsWriter writer;
  writer.AddF32(a, std::vector<int64_t>{1}, std::vector<float>{value});
  writer.AddF32(b, std::vector<int64_t>{1}, std::vector<float>{value});
  return writer.Finish();
}

TEST(Safetensors, ReadsEveryFloatType) {
  SafetensorsWriter writer;
  writer.AddF32("matrix", std::vector<int64_t>{2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6.5});
  writer.AddBf16("vector", std::vector<int64_t>{4}, std::vector<float>{1, -2, 0.5, 3});
  const uint16_t half[] = {0x3c00, 0xc000};  // 1, -2
  writer.Add("half", "F16", std::vector<int64_t>{2, 1}, {reinterpret_cast<const char*>(half), 4});
  writer.AddF32("scalar", std::vector<int64_t>{}, std::vector<float>{7});
  writer.AddF32("empty", std::vector<int64_t>{0, 5}, std::vector<float>{});
  writer.AddF32("cube", std::vector<int64_t>{2, 1, 2}, std::vector<float>{1, 2, 3, 4});
  const std::string bytes = writer.Finish();
  absl::StatusOr<std::unique_ptr<WeightStore>> opened = OpenSafetensors(MemorySource("x", bytes));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const WeightStore& store = **opened;
  ASSERT_EQ(store.tensors().size(), 6u);
  EXPECT_EQ(store.Find("matrix")->shape, Shape({2, 3}));
  EXPECT_EQ(store.Find("vector")->scheme.weight, WeightFormat::kBF16);
  EXPECT_EQ(store.Find("none"), nullptr);
  const QuantizedMatrix matrix = *store.Read("matrix");
  EXPECT_EQ(matrix.n, 2);
  EXPECT_EQ(Values(matrix), (std::vector<float>{1, 2, 3, 4, 5, 6.5}));
  EXPECT_EQ(store.Read("vector")->n, 1);
  EXPECT_EQ(Values(*store.Read("vector")), (std::vector<float>{1, -2, 0.5, 3}));
  EXPECT_EQ(Values(*store.Read("half")), (std::vector<float>{1, -2}));
  EXPECT_EQ(Values(*store.Read("scalar")), std::vector<float>{7});
  EXPECT_EQ(Values(*store.Read("empty")), std::vector<float>{});
  EXPECT_EQ(store.Read("cube")->k, 2);
  EXPECT_EQ(store.Read("none").status().code(), absl::StatusCode::kNotFound);
}

TEST(Safetensors, AcceptsMetadataPaddingAndAnyOrder) {
  const absl::StatusOr<SafetensorsFile> file = Parse(SafetensorsBytes(
      R"({"b":{"data_offsets":[1,3],"shape":[1],"dtype":"BF16"},"__metadata__":{"format":"pt","":""},)"
      R"("a":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},"c":{"dtype":"F16","shape":[1,0,9],"data_offsets":[3,3]}}     )",
      Zeros(3)));
  EXPECT_EQ(file.status().code(), kDataLoss);  // b leaves a gap of one byte
  const absl::StatusOr<SafetensorsFile> good = Parse(SafetensorsBytes(
      R"({"b":{"data_offsets":[0,2],"shape":[1],"dtype":"BF16"},"__metadata__":{"format":"pt","":""},)"
      R"("a":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},"c":{"dtype":"F16","shape":[1,0,9],"data_offsets":[2,2]}}     )",
      Zeros(2)));
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->tensors[0].name, "a");
  EXPECT_TRUE(Parse(SafetensorsBytes("{}", "")).ok());
}

// A tensor that begins at an odd byte is unusual and harmless: its bytes are read, not mapped.
TEST(Safetensors, AcceptsATensorAtAnOddByte) {
  const absl::StatusOr<SafetensorsFile> file = Parse(SafetensorsBytes(
      R"({"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
      Zeros(6)));
  EXPECT_TRUE(file.ok()) << file.status();
}

struct BadFile {
  const char* what;
  std::string bytes;
  absl::StatusCode code;
  const char* message;
};

// A file of one entry with this description and this much data.
std::string Entry(std::string_view description, size_t data = 4, std::string_view name = "t") {
  return SafetensorsBytes("{\"" + std::string(name) + "\":" + std::string(description) + "}", Zeros(data));
}

std::vector<BadFile> BadFiles() {
  const std::string good = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const std::string two = R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})";
  const auto header = [](std::string_view text) { return SafetensorsBytes(text, ""); };
  std::string nested;
  for (int i = 0; i < 10000; ++i) nested += "{\"a\":";
  return {
      {"no byte", "", kDataLoss, "0 bytes, expected at least 8"},
      {"7 bytes", Zeros(7), kDataLoss, "7 bytes, expected at least 8"},
      {"N = 0", Zeros(8), kDataLoss, "header of 0 bytes"},
      {"N = 1", SafetensorsBytes("{", ""), kDataLoss, "header of 1 bytes"},
      {"N beyond the file", SafetensorsBytes("{}", "", 3), kDataLoss, "header of 3 bytes in a file of 10"},
      {"N = 100,000,001", SafetensorsBytes("{}", "", 100'000'001), kDataLoss, "at most 100000000"},
      {"N = 2^63", SafetensorsBytes("{}", "", uint64_t{1} << 63), kDataLoss, "header of 9223372036854775808 bytes"},
      {"N = 2^64-1", SafetensorsBytes("{}", "", ~uint64_t{0}), kDataLoss, "header of 18446744073709551615 bytes"},
      {"leading space", header(" {}"), kDataLoss, "does not start with {"},
      {"BOM", header("\xef\xbb\xbf{}"), kDataLoss, "does not start with {"},
      {"an array", header("[]"), kDataLoss, "does not start with {"},
      {"a string", header("\"{}\""), kDataLoss, "does not start with {"},
      {"cut JSON", header("{\"a\":"), kDataLoss, "byte "},
      {"garbage after it", header("{}x"), kDataLoss, "byte 3"},
      {"second object", header("{}{}"), kDataLoss, "byte 3"},
      {"NULs after it", header(std::string_view("{}\0\0", 4)), kDataLoss, "byte 2: a NUL"},
      {"NUL within", header(std::string_view("{\0}", 3)), kDataLoss, "a NUL"},
      {"no UTF-8", header("{\"\xff\":1}"), kDataLoss, "UTF-8"},
      {"overlong UTF-8", header("{\"\xc0\x80\":1}"), kDataLoss, "UTF-8"},
      {"lone surrogate", header(R"({"\ud800":1})"), kDataLoss, "surrogate"},
      {"NaN", Entry(R"({"dtype":"F32","shape":[NaN],"data_offsets":[0,4]})"), kDataLoss, "byte "},
      {"1e400", Entry(R"({"dtype":"F32","shape":[1e400],"data_offsets":[0,4]})"), kDataLoss, "number overflow"},
      {"leading zero", Entry(R"({"dtype":"F32","shape":[01],"data_offsets":[0,4]})"), kDataLoss, "byte "},
      {"hexadecimal", Entry(R"({"dtype":"F32","shape":[0x1],"data_offsets":[0,4]})"), kDataLoss, "byte "},
      {"comment", header("{/**/}"), kDataLoss, "byte "},
      {"10,000 objects deep", header(nested), kDataLoss, "unknown member"},
      {"10,000 arrays deep", Entry("{\"shape\":" + std::string(10000, '[')), kDataLoss, "an array is not expected"},
      {"tensor twice", SafetensorsBytes("{\"t\":" + good + ",\"t\":" + two + "}", Zeros(8)), kDataLoss,
       "\"t\" is there twice"},
      {"tensor twice by escape", SafetensorsBytes("{\"t\":" + good + ",\"\\u0074\":" + two + "}", Zeros(8)), kDataLoss,
       "twice"},
      {"dtype twice", Entry(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"), kDataLoss,
       "dtype twice"},
      {"shape twice", Entry(R"({"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]})"), kDataLoss,
       "shape twice"},
      {"offsets twice", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]})"), kDataLoss,
       "data_offsets twice"},
      {"unknown member", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]})"), kDataLoss,
       "\"strides\""},
      {"__metadata__ twice", header(R"({"__metadata__":{},"__metadata__":{}})"), kDataLoss, "twice"},
      {"metadata key twice", header(R"({"__metadata__":{"a":"1","a":"2"}})"), kDataLoss, "__metadata__ \"a\": twice"},
      {"metadata null", header(R"({"__metadata__":null})"), kDataLoss, "__metadata__: null"},
      {"metadata number", header(R"({"__metadata__":{"a":1}})"), kDataLoss, "__metadata__ \"a\": a number"},
      {"metadata nested", header(R"({"__metadata__":{"a":{}}})"), kDataLoss, "__metadata__ \"a\": an object"},
      {"tensor null", Entry("null"), kDataLoss, "tensor t: null"},
      {"tensor an array", Entry("[]"), kDataLoss, "tensor t: an array"},
      {"no dtype", Entry(R"({"shape":[1],"data_offsets":[0,4]})"), kDataLoss, "tensor t: no dtype"},
      {"no shape", Entry(R"({"dtype":"F32","data_offsets":[0,4]})"), kDataLoss, "tensor t: no shape"},
      {"no offsets", Entry(R"({"dtype":"F32","shape":[1]})"), kDataLoss, "tensor t: no data_offsets"},
      {"unknown dtype", Entry(R"({"dtype":"F128","shape":[1],"data_offsets":[0,16]})", 16), kDataLoss,
       "unknown dtype \"F128\""},
      {"lower-case dtype", Entry(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})"), kDataLoss, "unknown dtype"},
      {"dtype a number", Entry(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})"), kDataLoss, "dtype: a number"},
      {"half a byte", Entry(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})", 2), kDataLoss, "end within a byte"},
      {"shape a number", Entry(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})"), kDataLoss, "shape: a number"},
      {"negative size", Entry(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})"), kDataLoss,
       "shape: a negative number"},
      {"fraction", Entry(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})"), kDataLoss, "shape: a fraction"},
      {"size a string", Entry(R"({"dtype":"F32","shape":["1"],"data_offsets":[0,4]})"), kDataLoss, "shape: a string"},
      {"size a boolean", Entry(R"({"dtype":"F32","shape":[true],"data_offsets":[0,4]})"), kDataLoss,
       "shape: a boolean"},
      {"size of 2^49", Entry(R"({"dtype":"F32","shape":[562949953421312],"data_offsets":[0,4]})"), kDataLoss,
       "beyond 2^48"},
      {"size of 2^64", Entry(R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]})"), kDataLoss,
       "a fraction"},
      {"product overflows", Entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})"), kDataLoss,
       "beyond 2^48"},
      {"product overflows beside a 0",
       Entry(R"({"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]})", 0), kDataLoss, "beyond 2^48"},
      {"65 dimensions",
       Entry("{\"dtype\":\"F32\",\"shape\":[1" +
             [] {
               std::string s;
               for (int i = 0; i < 64; ++i) s += ",1";
               return s;
             }() +
             "],\"data_offsets\":[0,4]}"),
       kDataLoss, "more than 64 numbers"},
      {"one offset", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})"), kDataLoss,
       "data_offsets has 1 numbers"},
      {"three offsets", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})"), kDataLoss,
       "data_offsets has 3 numbers"},
      {"reversed", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})"), kDataLoss, "reversed"},
      {"offsets of 2^64-1",
       Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615]})"), kDataLoss,
       "begins at data offset 18446744073709551611"},
      {"too few bytes for the shape", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"), kDataLoss,
       "4 bytes at data_offsets [0, 4], expected 8 for F32 [2]"},
      {"overlap", SafetensorsBytes("{\"a\":" + good + ",\"b\":" + good + "}", Zeros(4)), kDataLoss,
       "expected 4 (overlap)"},
      {"gap", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8), kDataLoss, "expected 0 (gap)"},
      {"data cut off", Entry(good, 3), kDataLoss, "3 bytes of tensor data, expected 4 (cut off)"},
      {"data behind", Entry(good, 5), kDataLoss, "5 bytes of tensor data, expected 4 (trailing data)"},
      {"ZIP behind", Entry(good) + "PK\3\4", kDataLoss, "trailing data"},
      {"empty name", Entry(good, 4, ""), kDataLoss, "empty tensor name"},
      {"name of 1 MiB", Entry(good, 4, std::string(1 << 20, 'a')), kDataLoss, "1048576 bytes"},
      {"a text of 1 MiB that is no UTF-8", header("{\"" + std::string(1 << 20, 'x') + "\xff\":1}"), kDataLoss,
       "invalid string"},
      {"control character in a name", Entry(good, 4, "a\\u0000b"), kDataLoss, "a\\x00b"},
      {"new line in a name", Entry(good, 4, "a\\nb"), kDataLoss, "a\\x0ab"},
  };
}

TEST(Safetensors, RefusesBadFiles) {
  for (const BadFile& bad : BadFiles()) {
    const absl::Status status = Parse(bad.bytes).status();
    EXPECT_EQ(status.code(), bad.code) << bad.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message)) << bad.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.safetensors")) << bad.what;
    EXPECT_LT(status.message().size(), 1000u) << bad.what;
  }
}

TEST(Safetensors, RefusesEveryTruncation) {
  SafetensorsWriter writer;
  writer.AddF32("a", std::vector<int64_t>{3}, std::vector<float>{1, 2, 3});
  writer.AddBf16("b", std::vector<int64_t>{1}, std::vector<float>{1});
  const std::string bytes = writer.Finish();
  ASSERT_TRUE(Parse(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_EQ(Parse(bytes.substr(0, size)).status().code(), kDataLoss) << size;
}

TEST(Safetensors, RefusesTooManyTensors) {
  std::string header = "{";
  for (int i = 0; i <= 1 << 18; ++i) {
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_THAT(std::string(Parse(SafetensorsBytes(header + "}", "")).status().message()),
              HasSubstr("more than 262144 tensors"));
}

// Whether a tensor that cannot be read matters is for the model to say.
TEST(Safetensors, TensorsThatCannotBeReadFailWhereTheyAreRead) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"dtype":"I64","shape":[1],"data_offsets":[4,12]})", "tensor t: dtype I64 is not supported (F32, F16, BF16)"},
      {R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[4,12]})", "tensor t: dtype F8_E4M3 is not supported"},
      {R"({"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[4,12]})", "tensor t: 5 dimensions, at most 4"}};
  for (const auto& [entry, message] : cases) {
    const std::string bytes = SafetensorsBytes(
        std::string(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":)") + entry + "}", Zeros(12));
    const auto store = OpenSafetensors(MemorySource("x.safetensors", bytes));
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_TRUE((*store)->Read("a").ok());
    const absl::Status status = (*store)->Read("t").status();
    EXPECT_EQ(status.code(), kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(SafetensorsIndex, Reads) {
  std::optional<int64_t> total_size;
  const auto index = ParseSafetensorsIndex(
      R"({"metadata":{"total_size":8,"more":[{"a":[1,null]},2.5,"x",true,-1]},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})",
      "i", &total_size);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->size(), 2u);
  EXPECT_EQ(index->at("b"), "m-2.safetensors");
  EXPECT_EQ(total_size, 8);
}

TEST(SafetensorsIndex, RefusesBadTexts) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "no JSON at byte 1"},
      {"[]", "is an array of 0, expected an object"},
      {"{}", "no weight_map"},
      {R"({"weight_map":{}})", "no weight_map"},
      {R"({"weight_map":[]})", "no weight_map"},
      {R"({"weight_map":"a"})", "weight_map is \"a\", expected an object"},
      {R"({"weight_map":{"a":1}})", "tensor a: 1 is no file name"},
      {R"({"weight_map":{"a":{}}})", "tensor a: an object of 0 is no file name"},
      {R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})", "key \"a\" is there twice in weight_map"},
      {R"({"weight_map":{"a":"x.safetensors"},"weight_map":{"a":"x.safetensors"}})",
       "key \"weight_map\" is there twice"},
      {R"({"weight_map":{"":"x.safetensors"}})", "empty tensor name"},
      {R"({"weight_map":{"a":"../../etc/passwd"}})", "is no file name"},
      {R"({"weight_map":{"a":"../x.safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":"/x.safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":"sub/../../x.safetensors"}})", "is no file name of this folder"},
      {R"({"weight_map":{"a":"sub//x.safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":"sub/.safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":"x\u0000.safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":".safetensors"}})", "is no file name"},
      {R"({"weight_map":{"a":"pytorch_model.bin"}})", "is no file name"},
      {R"({"weight_map":{"a":"x.safetensors")", "byte "},
      {"{\"metadata\":" + std::string(5000, '[') + "}", "deeper than 32"},
      {R"({"metadata":{"a":[{"b":1,"b":2}]},"weight_map":{"a":"x.safetensors"}})",
       "\"b\" is there twice in metadata.a[0]"},
  };
  for (const auto& [text, message] : cases) {
    const absl::Status status = ParseSafetensorsIndex(text, "index.json").status();
    EXPECT_EQ(status.code(), kDataLoss) << text.substr(0, 100);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << text.substr(0, 100);
  }
}

class Sharded : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.Write("m-1.safetensors", OneTensorFile("a", 1));
    folder_.Write("m-2.safetensors", OneTensorFile("b", 2));
  }
  absl::StatusOr<std::unique_ptr<WeightStore>> Open(std::string_view weight_map) {
    folder_.Write("model.safetensors.index.json", "{\"weight_map\":" + std::string(weight_map) + "}");
    return OpenSafetensorsFolder(folder_.path());
  }
  void ExpectDataLoss(std::string_view weight_map, const char* message) {
    const absl::Status status = Open(weight_map).status();
    EXPECT_EQ(status.code(), kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  TempDir folder_;
};

TEST_F(Sharded, Reads) {
  const auto store = Open(R"({"b":"m-2.safetensors","a":"m-1.safetensors"})");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Values(*(*store)->Read("a")), std::vector<float>{1});
  EXPECT_EQ(Values(*(*store)->Read("b")), std::vector<float>{2});
}

TEST_F(Sharded, MissingFile) {
  ExpectDataLoss(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})", "names m-3.safetensors, which is missing");
}
// As transformers joins them to the folder.
TEST_F(Sharded, FilesMayLieInAFolderOfTheFolderAndHaveAnyName) {
  std::filesystem::create_directory(folder_.path() + "/sub");
  folder_.Write("sub/m (2) \u00e9.safetensors", OneTensorFile("b", 3));
  const auto store = Open(R"({"a":"./m-1.safetensors","b":"sub/./m (2) \u00e9.safetensors"})");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Values(*(*store)->Read("a")), std::vector<float>{1});
  EXPECT_EQ(Values(*(*store)->Read("b")), std::vector<float>{3});
  EXPECT_TRUE((*store)->warnings().empty());
}
// The index says which files there are, the files say what is in them (transformers, modeling_utils.py).
TEST_F(Sharded, TensorInAnotherFileThanTheIndexSaysIsRead) {
  const auto store = Open(R"({"a":"m-2.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"})");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Values(*(*store)->Read("a")), std::vector<float>{1});
  EXPECT_THAT((*store)->warnings(),
              ElementsAre(HasSubstr("in the wrong file: a (in m-1.safetensors, not in m-2.safetensors)"),
                          HasSubstr("names tensors that no file has: c (in m-1.safetensors)")));
  EXPECT_EQ((*store)->Find("c"), nullptr) << "whoever needs it finds that it is not there";
}
TEST_F(Sharded, TensorThatTheIndexDoesNotNameIsRead) {
  folder_.Write("m-2.safetensors", TwoTensorFile("b", "c", 2));
  const auto store = Open(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Values(*(*store)->Read("c")), std::vector<float>{2});
  EXPECT_THAT((*store)->warnings(), ElementsAre(HasSubstr("leaves out tensors of its files: c")));
}
TEST_F(Sharded, OfATensorInTwoFilesTheLaterCounts) {
  folder_.Write("m-2.safetensors", TwoTensorFile("a", "b", 2));
  for (const char* index :
       {R"({"a":"m-1.safetensors","b":"m-2.safetensors"})", R"({"x":"m-1.safetensors","a":"m-2.safetensors"})"}) {
    const auto store = Open(index);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ(Values(*(*store)->Read("a")), std::vector<float>{2}) << index;
    EXPECT_EQ((*store)->tensors().size(), 2u);
    EXPECT_THAT((*store)->warnings(),
                Contains(HasSubstr("tensor a is in m-1.safetensors and in m-2.safetensors, which counts")));
  }
}
TEST_F(Sharded, ATotalSizeThatLiesIsAWarning) {
  for (const auto& [size, warnings] : {std::pair{"8", 0u}, {"9", 1u}, {"-1", 1u}, {"\"8\"", 0u}, {"null", 0u}}) {
    folder_.Write("model.safetensors.index.json",
                  std::string(R"({"metadata":{"total_size":)") + size +
                      R"(},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
    const auto store = OpenSafetensorsFolder(folder_.path());
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->warnings().size(), warnings) << size;
  }
}
TEST_F(Sharded, TheSingleFileWinsOverAnIndex) {
  folder_.Write("model.safetensors", OneTensorFile("a", 7));
  const auto store = Open(R"({"a":"m-1.safetensors","b":"no-such.safetensors"})");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(Values(*(*store)->Read("a")), std::vector<float>{7});
  EXPECT_THAT((*store)->warnings(), ElementsAre(HasSubstr("index.json: not read")));
}
TEST_F(Sharded, CorruptFileIsNamed) {
  folder_.Write("m-2.safetensors", "short");
  ExpectDataLoss(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})", "m-2.safetensors: 5 bytes");
}
TEST_F(Sharded, FolderInPlaceOfAFile) {
  std::filesystem::create_directory(folder_.path() + "/m-3.safetensors");
  EXPECT_EQ(Open(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SafetensorsFolder, PipeInPlaceOfTheFileIsRefusedAtOnce) {
  TempDir folder;
  ASSERT_EQ(mkfifo((folder.path() + "/model.safetensors").c_str(), 0600), 0);
  const absl::Status status = OpenSafetensorsFolder(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no regular file"));
}

TEST(SafetensorsFolder, FileThatShrinksUnderTheReaderIsDataLoss) {
  TempDir folder;
  const std::string path = folder.Write("model.safetensors", OneTensorFile("a", 1));
  const auto store = OpenSafetensorsFolder(folder.path());
  ASSERT_TRUE(store.ok()) << store.status();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  const absl::Status status = (*store)->Read("a").status();
  EXPECT_EQ(status.code(), kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor a"));
}

TEST(SafetensorsFolder, ReadsStories15M) {
  const std::string path = testing::SharedPath("data/stories15M/hf-bf16");
  if (!testing::FileExists(path)) GTEST_SKIP() << "data: " << path;
  const auto store = OpenSafetensorsFolder(path);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->tensors().size(), 6u * 9 + 2);
  EXPECT_EQ((*store)->Find("model.embed_tokens.weight")->shape, Shape({32000, 288}));
  for (const TensorInfo& info : (*store)->tensors()) EXPECT_TRUE((*store)->Read(info.name).ok()) << info.name;
}

}  // namespace
}  // namespace quantd
