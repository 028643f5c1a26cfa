// Big-number factoring by continued fractions (Morrison and Brillhart 1975). Every number is an object of its
// own on the heap, every operation makes a new one: very many tiny blocks that die young, few that stay.
#include <algorithm>
#include <utility>
#include <vector>

#include "common.hpp"

namespace {

// A natural number of any size; an immutable, counted block of 32-bit limbs, the lowest first.
class Natural {
 public:
  explicit Natural(uint64_t value = 0) : body_(make(2)) {
    body_->limb[0] = static_cast<uint32_t>(value);
    body_->limb[1] = static_cast<uint32_t>(value >> 32);
    trim();
  }
  Natural(const Natural& other) : body_(other.body_) { ++body_->users; }
  Natural(Natural&& other) noexcept : body_(std::exchange(other.body_, nullptr)) {}
  Natural& operator=(Natural other) noexcept {
    std::swap(body_, other.body_);
    return *this;
  }
  ~Natural() {
    if (body_ != nullptr && --body_->users == 0) std::free(body_);
  }

  static Natural parse(const char* digits) {
    Natural value(0);
    for (; *digits != 0; ++digits)
      value = value * Natural(10) + Natural(static_cast<uint64_t>(*digits - '0'));
    return value;
  }

  bool zero() const { return body_->count == 0; }
  bool odd() const { return body_->count != 0 && (body_->limb[0] & 1) != 0; }
  bool one() const { return body_->count == 1 && body_->limb[0] == 1; }
  uint32_t count() const { return body_->count; }
  double approximate() const {
    double value = 0;
    for (uint32_t i = body_->count; i-- > 0;) value = value * 4294967296.0 + body_->limb[i];
    return value;
  }
  uint64_t low() const {
    return (body_->count > 0 ? body_->limb[0] : 0) | (body_->count > 1 ? uint64_t{body_->limb[1]} << 32 : 0);
  }

  friend int compare(const Natural& a, const Natural& b) {
    if (a.body_->count != b.body_->count) return a.body_->count < b.body_->count ? -1 : 1;
    for (uint32_t i = a.body_->count; i-- > 0;) {
      if (a.body_->limb[i] != b.body_->limb[i]) return a.body_->limb[i] < b.body_->limb[i] ? -1 : 1;
    }
    return 0;
  }
  friend Natural operator+(const Natural& a, const Natural& b) {
    const uint32_t count = std::max(a.body_->count, b.body_->count);
    Natural sum(Fresh{}, make(count + 1));
    uint64_t carry = 0;
    for (uint32_t i = 0; i < count; ++i) {
      carry += uint64_t{a.limb(i)} + b.limb(i);
      sum.body_->limb[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    sum.body_->limb[count] = static_cast<uint32_t>(carry);
    sum.trim();
    return sum;
  }
  // a is at least b.
  friend Natural operator-(const Natural& a, const Natural& b) {
    Natural difference(Fresh{}, make(a.body_->count));
    int64_t carry = 0;
    for (uint32_t i = 0; i < a.body_->count; ++i) {
      carry += int64_t{a.body_->limb[i]} - b.limb(i);
      difference.body_->limb[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    difference.trim();
    return difference;
  }
  friend Natural operator*(const Natural& a, const Natural& b) {
    Natural product(Fresh{}, make(a.body_->count + b.body_->count));
    std::memset(product.body_->limb, 0, product.body_->count * sizeof(uint32_t));
    for (uint32_t i = 0; i < a.body_->count; ++i) {
      uint64_t carry = 0;
      for (uint32_t j = 0; j < b.body_->count; ++j) {
        carry += uint64_t{a.body_->limb[i]} * b.body_->limb[j] + product.body_->limb[i + j];
        product.body_->limb[i + j] = static_cast<uint32_t>(carry);
        carry >>= 32;
      }
      product.body_->limb[i + b.body_->count] = static_cast<uint32_t>(carry);
    }
    product.trim();
    return product;
  }
  // Quotient and remainder, bit by bit of the leading limbs for long divisors, limb by limb for short ones.
  friend std::pair<Natural, Natural> divide(const Natural& a, const Natural& b) {
    if (compare(a, b) < 0) return {Natural(0), a};
    if (b.body_->count == 1) {
      Natural quotient(Fresh{}, make(a.body_->count));
      uint64_t rest = 0;
      for (uint32_t i = a.body_->count; i-- > 0;) {
        rest = rest << 32 | a.body_->limb[i];
        quotient.body_->limb[i] = static_cast<uint32_t>(rest / b.body_->limb[0]);
        rest %= b.body_->limb[0];
      }
      quotient.trim();
      return {std::move(quotient), Natural(rest)};
    }
    return divide_long(a, b);
  }
  friend Natural operator/(const Natural& a, const Natural& b) { return divide(a, b).first; }
  friend Natural operator%(const Natural& a, const Natural& b) { return divide(a, b).second; }

 private:
  struct Body {
    uint32_t users, count;
    uint32_t limb[];
  };
  struct Fresh {};
  Natural(Fresh, Body* body) : body_(body) {}
  static Body* make(uint32_t count) {
    auto* body = static_cast<Body*>(std::malloc(sizeof(Body) + count * sizeof(uint32_t)));
    if (body == nullptr) std::abort();
    body->users = 1;
    body->count = count;
    return body;
  }
  uint32_t limb(uint32_t place) const { return place < body_->count ? body_->limb[place] : 0; }
  void trim() {
    while (body_->count != 0 && body_->limb[body_->count - 1] == 0) --body_->count;
  }
  // Schoolbook division in base 2^32 (Knuth, The Art of Computer Programming 2, 4.3.1, algorithm D).
  static std::pair<Natural, Natural> divide_long(const Natural& a, const Natural& b) {
    const int shift = __builtin_clz(b.body_->limb[b.body_->count - 1]);
    const uint64_t scale = uint64_t{1} << shift;
    Natural divisor = b * Natural(scale);
    const uint32_t n = divisor.body_->count, m = a.body_->count - b.body_->count;
    Natural scaled = a * Natural(scale);
    Natural rest(Fresh{}, make(a.body_->count + 1));
    for (uint32_t i = 0; i <= a.body_->count; ++i) rest.body_->limb[i] = scaled.limb(i);
    Natural quotient(Fresh{}, make(m + 1));
    uint32_t* u = rest.body_->limb;
    const uint32_t* v = divisor.body_->limb;
    for (uint32_t j = m + 1; j-- > 0;) {
      const uint64_t top = uint64_t{u[j + n]} << 32 | u[j + n - 1];
      uint64_t guess = top / v[n - 1], left = top % v[n - 1];
      while (guess >> 32 != 0 || guess * v[n - 2] > (left << 32 | u[j + n - 2])) {
        --guess;
        left += v[n - 1];
        if (left >> 32 != 0) break;
      }
      int64_t borrow = 0;
      uint64_t carry = 0;
      for (uint32_t i = 0; i <= n; ++i) {
        carry += i < n ? guess * v[i] : 0;
        borrow += int64_t{u[i + j]} - static_cast<int64_t>(carry & 0xffffffff);
        u[i + j] = static_cast<uint32_t>(borrow);
        borrow >>= 32;
        carry >>= 32;
      }
      if (borrow < 0) {
        --guess;
        uint64_t sum = 0;
        for (uint32_t i = 0; i <= n; ++i) {
          sum += uint64_t{u[i + j]} + (i < n ? v[i] : 0);
          u[i + j] = static_cast<uint32_t>(sum);
          sum >>= 32;
        }
      }
      quotient.body_->limb[j] = static_cast<uint32_t>(guess);
    }
    quotient.trim();
    rest.trim();
    return {std::move(quotient), rest / Natural(scale)};
  }

  Body* body_;
};

Natural square_root(const Natural& value) {
  Natural root = value, next = (value + Natural(1)) / Natural(2);
  while (compare(next, root) < 0) {
    root = next;
    next = (root + value / root) / Natural(2);
  }
  return root;
}

Natural common_divisor(Natural a, Natural b) {
  while (!b.zero()) {
    Natural rest = a % b;
    a = std::move(b);
    b = std::move(rest);
  }
  return a;
}

// Primes p up to the wanted count for which value is a square modulo p.
std::vector<Natural> factor_base(const Natural& value, size_t wanted) {
  std::vector<Natural> base{Natural(2)};
  for (uint64_t p = 3; base.size() < wanted; p += 2) {
    bool prime = true;
    for (uint64_t d = 3; d * d <= p && prime; d += 2) prime = p % d != 0;
    if (!prime) continue;
    uint64_t power = (value % Natural(p)).low(), result = 1;
    for (uint64_t e = (p - 1) / 2; e != 0; e >>= 1, power = power * power % p) {
      if ((e & 1) != 0) result = result * power % p;
    }
    if (result <= 1) base.push_back(Natural(p));
  }
  return base;
}

struct Relation {
  Natural root;  // root^2 = product of base[i]^exponent[i], with the sign, modulo the number
  std::vector<uint32_t> exponent;  // [0] is the sign
  std::vector<uint64_t> parity, history;
};

// Divides out the base; true if nothing is left. Gives up early where little was divided out.
bool smooth(Natural value, const std::vector<Natural>& base, std::vector<uint32_t>& exponent) {
  for (size_t i = 0; i < base.size() && !value.one(); ++i) {
    for (;;) {
      auto [quotient, rest] = divide(value, base[i]);
      if (!rest.zero()) break;
      ++exponent[i + 1];
      value = std::move(quotient);
    }
    if (i == base.size() / 6 && value.approximate() > 1e12) return false;
  }
  return value.one();
}

// Combines relations to a square; returns a proper divisor, or 1.
Natural combine(std::vector<Relation>& relations, const std::vector<Natural>& base, const Natural& number) {
  std::vector<size_t> pivot(base.size() + 1, relations.size());
  for (size_t row = 0; row < relations.size(); ++row) {
    Relation& now = relations[row];
    bool square = true;
    for (size_t column = 0; column <= base.size() && square; ++column) {
      if ((now.parity[column / 64] >> column % 64 & 1) == 0) continue;
      if (pivot[column] == relations.size()) {
        pivot[column] = row;
        square = false;
      } else {
        const Relation& other = relations[pivot[column]];
        for (size_t i = 0; i < now.parity.size(); ++i) now.parity[i] ^= other.parity[i];
        for (size_t i = 0; i < now.history.size(); ++i) now.history[i] ^= other.history[i];
      }
    }
    if (!square) continue;
    Natural left(1), right(1);
    std::vector<uint32_t> exponent(base.size() + 1);
    for (size_t other = 0; other < relations.size(); ++other) {
      if ((now.history[other / 64] >> other % 64 & 1) == 0) continue;
      left = left * relations[other].root % number;
      for (size_t i = 0; i <= base.size(); ++i) exponent[i] += relations[other].exponent[i];
    }
    for (size_t i = 1; i <= base.size(); ++i) {
      for (uint32_t e = 0; e < exponent[i] / 2; ++e) right = right * base[i - 1] % number;
    }
    Natural divisor = common_divisor(left + right, number);
    if (!divisor.one() && compare(divisor, number) != 0) return divisor;
  }
  return Natural(1);
}

Natural factor(const Natural& number, uint64_t multiplier, size_t base_size) {
  const Natural value = number * Natural(multiplier);
  const std::vector<Natural> base = factor_base(value, base_size);
  const Natural root = square_root(value);
  const size_t wanted = base.size() + 12;
  std::vector<Relation> relations;
  Natural p(0), q(1), a = root, before(1), convergent = root % number;
  for (uint64_t step = 1; relations.size() < wanted; ++step) {
    p = a * q - p;
    q = (value - p * p) / q;
    if (q.one()) break;
    std::vector<uint32_t> exponent(base.size() + 1);
    exponent[0] = step & 1;
    if (smooth(q, base, exponent)) {
      Relation relation{convergent, std::move(exponent), std::vector<uint64_t>(base.size() / 64 + 1),
                        std::vector<uint64_t>(wanted / 64 + 1)};
      for (size_t i = 0; i <= base.size(); ++i)
        relation.parity[i / 64] |= uint64_t{relation.exponent[i] & 1} << i % 64;
      relation.history[relations.size() / 64] |= uint64_t{1} << relations.size() % 64;
      relations.push_back(std::move(relation));
    }
    a = (root + p) / q;
    Natural next = (a * convergent + before) % number;
    before = std::move(convergent);
    convergent = std::move(next);
  }
  return combine(relations, base, number);
}

void print(const Natural& value) {
  std::vector<char> digits;
  for (Natural rest = value; !rest.zero();) {
    auto [quotient, digit] = divide(rest, Natural(10));
    digits.push_back(static_cast<char>('0' + digit.low()));
    rest = std::move(quotient);
  }
  if (digits.empty()) digits.push_back('0');
  std::reverse(digits.begin(), digits.end());
  std::printf("%.*s", static_cast<int>(digits.size()), digits.data());
}

}  // namespace

int main(int argc, char** argv) {
  // Products of two primes each.
  static const char* const kNumbers[] = {"504227993529583357",           "158161248019775444461",
                                         "43451630062963136438467",      "10637667429500413156051817",
                                         "2643488003573070884304339907", "39304640226523266349977890611"};
  const long numbers = bench::argument(argc, argv, 1, 6);
  for (long i = 0; i < numbers && i < 6; ++i) {
    const Natural number = Natural::parse(kNumbers[i]);
    Natural divisor(1);
    for (uint64_t multiplier : {1, 3, 7, 11, 13, 5, 17}) {
      divisor = factor(number, multiplier, 60 + static_cast<size_t>(i) * 50);
      if (!divisor.one()) break;
    }
    std::printf("%s = ", kNumbers[i]);
    print(divisor);
    std::printf(" * ");
    print(number / divisor);
    std::printf("\n");
  }
}
