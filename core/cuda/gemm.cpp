#include "core/cuda/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <span>

#include "core/cuda/gemm_layout.h"
#include "core/cuda/libraries.h"
#include "core/cuda/simple_gemm.h"
#include "core/library.h"
#include "core/profile.h"

namespace sg::cuda {
namespace {

constexpr uint64_t kWorkspace = uint64_t{32} << 20;  // at most; what NVIDIA advises for Hopper
constexpr int kAskFor = 16;                          // algorithms
constexpr float kHalfWave = 0.5f;                    // see gemm.h

// What is used of cuBLASLt.
struct Api {
  static std::string file() { return fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR); }
  Library library{
      {.file = file(),
       .purpose = "matmuls on cuda",
       .folders = library_folders(file()),
       .advice = fmt::format(
           "install it (apt: libcublas-{0}-{1}; pip: {2}) and see that its folder is in "
           "LD_LIBRARY_PATH, or use --device cpu",
           CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR,
           CUBLAS_VER_MAJOR >= 13 ? "nvidia-cublas" : "nvidia-cublas-cu12")}};
#define SG_LT(member, name) decltype(name)* const member = library.function<decltype(name)>(#name)
  SG_LT(create, cublasLtCreate);
  SG_LT(status_string, cublasLtGetStatusString);
  SG_LT(matmul, cublasLtMatmul);
  SG_LT(heuristic, cublasLtMatmulAlgoGetHeuristic);
  SG_LT(get_algorithm, cublasLtMatmulAlgoConfigGetAttribute);
  SG_LT(create_operation, cublasLtMatmulDescCreate);
  SG_LT(set_operation, cublasLtMatmulDescSetAttribute);
  SG_LT(create_layout, cublasLtMatrixLayoutCreate);
  SG_LT(create_preference, cublasLtMatmulPreferenceCreate);
  SG_LT(set_preference, cublasLtMatmulPreferenceSetAttribute);
  SG_LT(destroy_preference, cublasLtMatmulPreferenceDestroy);
#undef SG_LT
};

const Api& api() {
  static const Api& a = *new Api;
  return a;
}

std::string describe(const Gemm& p) {
  const auto operand = [](const GemmOperand<void>& o, int64_t rows, int64_t columns) {
    return fmt::format("({}, {}){} rows {} apart", rows, columns,
                       o.transposed ? " transposed," : "", o.stride);
  };
  return fmt::format("{} ({}, {}) = {} {} times {}{}{}{}", name_of(p.out), p.m, p.n, name_of(p.in),
                     operand(p.a, p.m, p.k), operand(p.b, p.k, p.n),
                     p.accumulate ? ", added up" : "", p.bias ? ", with bias" : "",
                     p.bias_grad ? ", with the gradient of the bias" : "");
}

void check_status(cublasStatus_t status, const char* call, const Gemm& p) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail(ExitCode::failure, "CUDA: {} failed: {}; matmul {}", call, api().status_string(status),
       describe(p));
}

// The library says so where it has nothing for a matmul; sizes that do not fit each other have been
// found before.
bool refuses(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

// A matmul made ready: all but the addresses.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulHeuristicResult_t best{};
  std::string refusal;  // why the library does not do it; empty where it does
};

cudaDataType_t type_of(Dtype dtype) {
  check(dtype == Dtype::f32 || dtype == Dtype::bf16, "gemm: dtype {} is not supported on cuda",
        name_of(dtype));
  return dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The largest power of two, up to what the allocator grants, that divides the address.
uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return uint32_t(std::min<uintptr_t>(256, address & (~address + 1)));
}

cublasLtEpilogue_t epilogue_of(const Gemm& p) {
  // The library's b is the a of the matmul.
  return p.bias_grad ? CUBLASLT_EPILOGUE_BGRADB
         : p.bias    ? CUBLASLT_EPILOGUE_BIAS
                     : CUBLASLT_EPILOGUE_DEFAULT;
}
const void* bias_pointer(const Gemm& p) { return p.bias_grad ? p.bias_grad : p.bias; }

template <class T>
void set(const Plan& plan, cublasLtMatmulDescAttributes_t what, const T& value, const Gemm& p) {
  check_status(api().set_operation(plan.operation, what, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute", p);
}

// An algorithm that does not say has not split the sum.
bool splits_sum(const cublasLtMatmulAlgo_t& algorithm) {
  int32_t parts = 1;
  size_t written = 0;
  return api().get_algorithm(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts,
                             &written) == CUBLAS_STATUS_SUCCESS &&
         parts > 1;
}

// The rule of gemm.h, of algorithms that can run.
void choose(const Gemm& p, std::span<const cublasLtMatmulHeuristicResult_t> found, Plan& plan) {
  plan.best = found[0];
  if (p.k <= kLongSum) return;
  const auto fills = [](const cublasLtMatmulHeuristicResult_t& f) {
    return f.wavesCount >= kHalfWave || splits_sum(f.algo);
  };
  const auto first = std::ranges::find_if(found, fills);
  if (first != found.end())
    plan.best = *first;
  else if (p.bias_grad)
    plan.refusal = "no algorithm that fills the device";
  else
    plan.best = *std::ranges::max_element(found, {}, &cublasLtMatmulHeuristicResult_t::wavesCount);
}

void find_algorithm(cublasLtHandle_t handle, const Gemm& p, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_status(api().create_preference(&preference), "cublasLtMatmulPreferenceCreate", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    check_status(api().set_preference(preference, what, &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute", p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c));
  std::array<cublasLtMatmulHeuristicResult_t, kAskFor> found{};
  int count = 0;
  const cublasStatus_t status = api().heuristic(handle, plan.operation, plan.a, plan.b, plan.c,
                                                plan.c, preference, kAskFor, found.data(), &count);
  api().destroy_preference(preference);
  if (!refuses(status)) check_status(status, "cublasLtMatmulAlgoGetHeuristic", p);
  const auto end =
      std::stable_partition(found.begin(), found.begin() + (refuses(status) ? 0 : count),
                            [](const auto& f) { return f.state == CUBLAS_STATUS_SUCCESS; });
  if (end == found.begin())
    plan.refusal = "no algorithm";
  else
    choose(p, {found.begin(), end}, plan);
}

Plan make_plan(cublasLtHandle_t handle, const Gemm& p) {
  Plan plan;
  check_status(api().create_operation(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "cublasLtMatmulDescCreate", p);
  const ColumnMajorProduct product = column_major(p);
  const auto layout = [&](cublasLtMatrixLayout_t& to, Dtype dtype, const ColumnMajor& m) {
    check_status(
        api().create_layout(&to, type_of(dtype), uint64_t(m.rows), uint64_t(m.columns), m.stride),
        "cublasLtMatrixLayoutCreate", p);
  };
  layout(plan.a, p.in, product.a);
  layout(plan.b, p.in, product.b);
  layout(plan.c, p.out, product.c);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, product.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, product.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p);
  set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p), p);
  // Its alignment counts.
  if (bias_pointer(p)) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_pointer(p), p);
  find_algorithm(handle, p, plan);
  return plan;
}

// Whatever fails with an epilogue means that the matmul does without: where it fails there too, it
// is an error.
Plan make_fused_plan(cublasLtHandle_t handle, const Gemm& p) {
  try {
    return make_plan(handle, p);
  } catch (const Error& e) {
    Plan plan;
    plan.refusal = e.what();
    return plan;
  }
}

// Handles of devices, and plans: made once, kept to the end of the program.
struct Plans {
  using Key = std::array<int64_t, 16>;
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> handles;
  std::map<Key, Plan> all;

  cublasLtHandle_t handle(const Stream& stream, const Gemm& p) {
    cublasLtHandle_t& h = handles[stream.device.index];
    if (!h) check_status(api().create(&h), "cublasLtCreate", p);
    return h;
  }
  Plan& find(const Stream& stream, const Gemm& p) {
    const Key key{stream.device.index,
                  p.m,
                  p.n,
                  p.k,
                  int(p.in),
                  int(p.out),
                  p.a.stride,
                  p.a.transposed,
                  p.b.stride,
                  p.b.transposed,
                  p.c_stride,
                  epilogue_of(p),
                  alignment(p.a.data),
                  alignment(p.b.data),
                  alignment(p.c),
                  alignment(bias_pointer(p))};
    auto it = all.find(key);
    if (it == all.end()) {
      const auto make = epilogue_of(p) == CUBLASLT_EPILOGUE_DEFAULT ? make_plan : make_fused_plan;
      it = all.emplace(key, make(handle(stream, p), p)).first;
    }
    return it->second;
  }
};

Plans& plans() {
  static Plans& p = *new Plans;
  return p;
}

// False, and nothing done, where the library does not do it.
bool try_gemm(Stream& stream, const Gemm& p, std::string& refusal) {
  check(p.in == Dtype::bf16 || p.out == Dtype::f32, "gemm: a matmul of f32 is f32, not {}",
        name_of(p.out));
  Plans& all = plans();
  const std::lock_guard lock(all.mutex);
  Plan& plan = all.find(stream, p);
  if (plan.refusal.empty()) {
    if (bias_pointer(p)) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_pointer(p), p);
    // From the tensors' allocator, so that a captured graph has a workspace of its own.
    Tensor workspace = empty({int64_t(plan.best.workspaceSize)}, Dtype::u8, stream.device);
    const float one = 1, beta = p.accumulate ? 1 : 0;
    const cublasStatus_t status =
        api().matmul(all.handle(stream, p), plan.operation, &one, p.b.data, plan.a, p.a.data,
                     plan.b, &beta, p.c, plan.c, p.c, plan.c, &plan.best.algo, workspace.raw(),
                     plan.best.workspaceSize, static_cast<cudaStream_t>(stream.handle));
    // It refuses before it starts anything.
    if (refuses(status))
      plan.refusal = fmt::format("cublasLtMatmul: {}", api().status_string(status));
    else
      check_status(status, "cublasLtMatmul", p);
  }
  refusal = plan.refusal;
  return refusal.empty();
}

// Logs a kind of matmul once, and counts.
void note_refusal(const Gemm& p, const char* way, double extra_bytes, const std::string& refusal) {
  profile::slow_path(p.in == Dtype::f32 ? "gemm in f32" : "gemm in bf16", way, extra_bytes, [&] {
    return fmt::format("{}; cuBLASLt ({}): {}", describe(p), api().library.path(), refusal);
  });
}

}  // namespace

void gemm(Stream& stream, const Gemm& p) {
  check(!p.bias && !p.bias_grad, "gemm: a bias, or its gradient, is for fused_gemm()");
  std::string refusal;
  if (try_gemm(stream, p, refusal)) return;
  note_refusal(p, "a simple kernel in place of cuBLASLt", simple_gemm_extra_bytes(p), refusal);
  simple_gemm(stream, p);
}

bool fused_gemm(Stream& stream, const Gemm& p) {
  check(!p.bias != !p.bias_grad && (!p.bias_grad || p.out == Dtype::f32),
        "gemm: expected a bias, or the gradient of one with a result in f32");
  std::string refusal;
  if (try_gemm(stream, p, refusal)) return true;
  if (p.bias)  // c is filled with it, and then added to
    note_refusal(p, "a pass of its own for the bias",
                 2.0 * double(p.m * p.n) * double(size_of(p.out)), refusal);
  else  // a is read once more
    note_refusal(p, "a pass of its own for the gradient of the bias",
                 double(p.m * p.k) * double(size_of(p.in)), refusal);
  return false;
}

}  // namespace sg::cuda
