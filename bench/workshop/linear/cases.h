// Random weights of every scheme, decoded a second time here, row by row from the file's own order, in double: what the kernels are held to.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../../../native/kernels/linear/linear.h"

struct Case {
  std::string name;
  fb::linear::Source source{};
  std::vector<uint8_t> data;
  std::vector<float> scale, zeros, table;
  std::function<double(int, int)> value;
};

struct Random {
  std::mt19937_64 engine;
  explicit Random(uint64_t seed) : engine(seed) {}
  uint32_t below(uint32_t n) { return (uint32_t)(engine() % n); }
  float normal() { return std::normal_distribution<float>()(engine); }
};

inline uint16_t half_bits(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  const int exponent = (int)(u >> 23 & 255) - 112;
  return exponent <= 0 ? 0 : (uint16_t)((u >> 16 & 0x8000) | (uint32_t)exponent << 10 | (u >> 13 & 1023));
}
inline float half_value(uint16_t h) { return std::ldexp((float)(h & 1023) + ((h >> 10 & 31) ? 1024.f : 0.f), std::max(1, h >> 10 & 31) - 25) * (h & 0x8000 ? -1.f : 1.f); }
inline float bfloat(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  u &= 0xffff0000;
  memcpy(&v, &u, 4);
  return v;
}

enum class Store { F16, BF16, F32 };
inline float stored(Store s, float v) { return s == Store::F16 ? half_value(half_bits(v)) : s == Store::BF16 ? bfloat(v) : v; }

inline Case affine_case(Random& random, int n, int k, int bits, int group, fb::linear::Zero zero, Store store) {
  using fb::linear::Zero;
  Case c;
  c.name = "affine" + std::to_string(bits) + " g" + std::to_string(group) + (zero == Zero::Constant ? " constant" : zero == Zero::Point ? " point" : " shift") +
           (store == Store::F16 ? " f16" : store == Store::BF16 ? " bf16" : " f32");
  const int groups = k / group;
  c.data.resize((size_t)n * k);
  for (auto& q : c.data) q = (uint8_t)random.below(1u << bits);
  for (int i = 0; i < n * groups; i++) {
    const float s = stored(store, (0.5f + std::fabs(random.normal())) * 0.01f);
    c.scale.push_back(s);
    const float middle = (float)(1 << bits) / 2 + random.normal();
    if (zero != Zero::Constant) c.zeros.push_back(stored(store, zero == Zero::Point ? middle : -middle * s));
  }
  c.source = {fb::linear::Scheme::Affine, n, k, bits, group, zero, c.data.data(), c.scale.data(), c.zeros.data(), (float)(1 << bits >> 1), nullptr};
  return c;
}

inline Case lookup_case(Random& random, int n, int k, int group, Store store) {
  static const float NF4[16] = {-1.f, -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f, -0.09105004f, 0.f,
                                0.0795803f, 0.1609302f, 0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.f};
  Case c;
  c.name = "lookup16 g" + std::to_string(group) + (store == Store::F32 ? " f32" : " f16");
  c.data.resize((size_t)n * k);
  for (auto& q : c.data) q = (uint8_t)random.below(16);
  for (int i = 0; i < n * (k / group); i++) c.scale.push_back(stored(store, (0.5f + std::fabs(random.normal())) * 0.05f));
  c.table.assign(NF4, NF4 + 16);
  c.source = {fb::linear::Scheme::Lookup16, n, k, 4, group, fb::linear::Zero::Constant, c.data.data(), c.scale.data(), nullptr, 0, c.table.data()};
  return c;
}

/** Where a superblock's d and dmin lie, -1: it has none. */
struct SuperblockShape {
  const char* name;
  int bytes, d, dmin;
};
inline SuperblockShape shape_of(fb::linear::Scheme scheme) {
  using fb::linear::Scheme;
  if (scheme == Scheme::Q2_K) return {"Q2_K", 84, 80, 82};
  if (scheme == Scheme::Q4_K) return {"Q4_K", 144, 0, 2};
  if (scheme == Scheme::Q5_K) return {"Q5_K", 176, 0, 2};
  return {"Q6_K", 210, 208, -1};
}

inline Case superblock_case(Random& random, int n, int k, fb::linear::Scheme scheme) {
  Case c;
  const SuperblockShape shape = shape_of(scheme);
  c.name = shape.name;
  c.data.resize((size_t)n * (k / 256) * shape.bytes);
  for (auto& b : c.data) b = (uint8_t)random.below(256);
  for (size_t at = 0; at < c.data.size(); at += shape.bytes) {
    const uint16_t d = half_bits((0.5f + std::fabs(random.normal())) * 0.001f), dmin = half_bits((0.5f + std::fabs(random.normal())) * 0.01f);
    memcpy(&c.data[at + shape.d], &d, 2);
    if (shape.dmin >= 0) memcpy(&c.data[at + shape.dmin], &dmin, 2);
  }
  c.source = {scheme, n, k, 0, 0, fb::linear::Zero::Constant, c.data.data(), nullptr, nullptr, 0, nullptr};
  return c;
}

/** Codebooks of 256 entries for groups of `group` in one row: to be timed. */
inline Case additive_case(Random& random, int n, int k, int codebooks, int group) {
  Case c;
  c.name = "additive " + std::to_string(codebooks) + "x8 g" + std::to_string(group);
  c.data.resize((size_t)n * (k / group) * codebooks);
  for (auto& q : c.data) q = (uint8_t)random.below(256);
  c.table.resize((size_t)codebooks * 256 * group);
  for (auto& v : c.table) v = random.normal();
  for (int i = 0; i < n; i++) c.scale.push_back(0.05f);
  c.source = {fb::linear::Scheme::Additive, n, k, 8, group, fb::linear::Zero::Constant, c.data.data(), c.scale.data(), nullptr, 0, c.table.data(), codebooks, 1};
  return c;
}

inline Case dense_case(Random& random, int n, int k, fb::linear::Scheme scheme) {
  using fb::linear::Scheme;
  Case c;
  c.name = scheme == Scheme::DenseF32 ? "dense f32" : scheme == Scheme::DenseF16 ? "dense f16" : "dense bf16";
  const int bytes = scheme == Scheme::DenseF32 ? 4 : 2;
  c.data.resize((size_t)n * k * bytes);
  for (size_t i = 0; i < (size_t)n * k; i++) {
    const float v = random.normal() * 0.05f;
    uint32_t u;
    memcpy(&u, &v, 4);
    const uint16_t h = scheme == Scheme::DenseF16 ? half_bits(v) : (uint16_t)(u >> 16);
    if (bytes == 4) memcpy(&c.data[i * 4], &v, 4);
    else memcpy(&c.data[i * 2], &h, 2);
  }
  c.source = {scheme, n, k, 0, 0, fb::linear::Zero::Constant, c.data.data(), nullptr, nullptr, 0, nullptr};
  return c;
}

/** Element (n, k) of the weight in double, from the definition. */
inline double element_of(const Case& c, int n, int k) {
  using fb::linear::Scheme;
  using fb::linear::Zero;
  const auto& s = c.source;
  const size_t i = (size_t)n * s.k + k;
  const uint8_t* d = c.data.data();
  switch (s.scheme) {
    case Scheme::DenseF32: {
      float v;
      memcpy(&v, d + i * 4, 4);
      return v;
    }
    case Scheme::DenseF16:
    case Scheme::DenseBF16: {
      uint16_t h;
      memcpy(&h, d + i * 2, 2);
      if (s.scheme == Scheme::DenseF16) return half_value(h);
      const uint32_t u = (uint32_t)h << 16;
      float v;
      memcpy(&v, &u, 4);
      return v;
    }
    case Scheme::Affine: {
      const size_t g = (size_t)n * (s.k / s.group) + k / s.group;
      if (s.zero == Zero::Shift) return (double)d[i] * c.scale[g] + c.zeros[g];
      return ((double)d[i] - (s.zero == Zero::Constant ? s.zero_point : c.zeros[g])) * c.scale[g];
    }
    case Scheme::Lookup16:
      return (double)c.table[d[i]] * c.scale[(size_t)n * (s.k / s.group) + k / s.group];
    default:
      break;
  }
  auto half = [](const uint8_t* p) { return (double)half_value((uint16_t)(p[0] | p[1] << 8)); };
  const int e = k % 256;
  if (s.scheme == Scheme::Q6_K) {
    const uint8_t* b = d + i / 256 * 210;
    const int h = e / 128, l = e % 32, quarter = e / 32 % 4;
    const int low = b[64 * h + 32 * (quarter & 1) + l];
    const int q = (quarter < 2 ? low & 15 : low >> 4) | (b[128 + 32 * h + l] >> (2 * quarter) & 3) << 4;
    return half(b + 208) * (int8_t)b[192 + e / 16] * (q - 32);
  }
  if (s.scheme == Scheme::Q2_K) {
    const uint8_t* b = d + i / 256 * 84;
    const int q = b[16 + e / 128 * 32 + e % 32] >> (2 * (e / 32 % 4)) & 3;
    return half(b + 80) * (b[e / 16] & 15) * q - half(b + 82) * (b[e / 16] >> 4);
  }
  const bool five = s.scheme == Scheme::Q5_K;
  const uint8_t* b = d + i / 256 * (five ? 176 : 144);
  const uint8_t* sc = b + 4;
  const int g = e / 32, l = e % 32;
  const int scale = g < 4 ? sc[g] & 63 : (sc[g + 4] & 15) | (sc[g - 4] >> 6) << 4;
  const int min = g < 4 ? sc[g + 4] & 63 : sc[g + 4] >> 4 | (sc[g] >> 6) << 4;
  const uint8_t byte = b[(five ? 48 : 16) + 32 * (g / 2) + l];
  int q = g & 1 ? byte >> 4 : byte & 15;
  if (five) q |= (b[16 + l] >> g & 1) << 4;
  return half(b) * scale * q - half(b + 2) * min;
}
