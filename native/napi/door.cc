// The N-API door: every export becomes a function of numbers; `read` and `write` copy between C++ memory and typed arrays.
#include <node_api.h>
#include <string.h>

#include "../kernels/exports.h"

namespace {

constexpr size_t MAX_ARGS = 64;
using Export = double (*)(const double*);

napi_value fail(napi_env env, const char* message) {
  napi_throw_type_error(env, nullptr, message);
  return nullptr;
}

napi_value call(napi_env env, napi_callback_info info) {
  size_t count = MAX_ARGS;
  napi_value values[MAX_ARGS];
  void* data;
  if (napi_get_cb_info(env, info, &count, values, nullptr, &data) != napi_ok || count > MAX_ARGS)
    return fail(env, "a kernel takes at most 64 numbers");
  double args[MAX_ARGS] = {};
  for (size_t i = 0; i < count; i++) {
    if (napi_get_value_double(env, values[i], &args[i]) != napi_ok) return fail(env, "a kernel takes numbers");
  }
  napi_value result;
  napi_create_double(env, reinterpret_cast<Export>(data)(args), &result);
  return result;
}

/** The bytes of a typed array. */
bool bytes_of(napi_env env, napi_value array, void** data, size_t* bytes) {
  napi_typedarray_type type;
  size_t length;
  if (napi_get_typedarray_info(env, array, &type, &length, data, nullptr, nullptr) != napi_ok) return false;
  static constexpr uint8_t SIZES[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  if (static_cast<size_t>(type) >= sizeof SIZES) return false;
  *bytes = length * SIZES[type];
  return true;
}

/** (pointer, typed array): `data` of the function says which way. */
napi_value transfer(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value values[2];
  void* outwards;
  double address;
  void* data;
  size_t bytes;
  if (napi_get_cb_info(env, info, &count, values, nullptr, &outwards) != napi_ok || count != 2 ||
      napi_get_value_double(env, values[0], &address) != napi_ok || !bytes_of(env, values[1], &data, &bytes))
    return fail(env, "expected a pointer and a typed array");
  void* memory = fb::pointer<void>(address);
  if (bytes != 0) outwards ? memcpy(data, memory, bytes) : memcpy(memory, data, bytes);
  return nullptr;
}

struct Entry {
  const char* name;
  Export run;
};

#define FB_ENTRY(name) {#name, name},
constexpr Entry TABLE[] = {FB_EXPORTS(FB_ENTRY, FB_ENTRY, FB_ENTRY)};

bool add(napi_env env, napi_value object, const char* name, napi_callback callback, void* data) {
  napi_value function;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, data, &function) == napi_ok &&
         napi_set_named_property(env, object, name, function) == napi_ok;
}

}  // namespace

/** { read, write, kernels: { fb_NAME: (...numbers) => number } in the order of the table }. */
NAPI_MODULE_INIT() {
  napi_value kernels;
  napi_create_object(env, &kernels);
  for (const Entry& entry : TABLE) {
    if (!add(env, kernels, entry.name, call, reinterpret_cast<void*>(entry.run))) return nullptr;
  }
  napi_set_named_property(env, exports, "kernels", kernels);
  add(env, exports, "write", transfer, nullptr);
  add(env, exports, "read", transfer, reinterpret_cast<void*>(1));
  return exports;
}
