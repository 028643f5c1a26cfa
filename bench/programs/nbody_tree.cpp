// Gravity of many bodies by an octree (Barnes and Hut 1986). Each step builds a tree of blocks of two sizes
// and drops all of it: phases of allocation and of freeing, freed in tree order.
#include <cmath>

#include "common.hpp"

namespace {

struct Vector {
  double x = 0, y = 0, z = 0;
};
struct Body {
  Vector place, speed, force;
  double mass = 1;
};

struct Node {
  bool leaf;
};
struct Leaf : Node {
  int count = 0;
  Body* bodies[4] = {};
};
struct Cell : Node {
  Vector middle;
  double mass = 0;
  Node* child[8] = {};
};

template <typename Kind>
Kind* make(bool leaf) {
  auto* node = new Kind();
  node->leaf = leaf;
  return node;
}

int octant(const Vector& place, const Vector& middle) {
  return (place.x >= middle.x ? 1 : 0) | (place.y >= middle.y ? 2 : 0) | (place.z >= middle.z ? 4 : 0);
}
Vector middle_of(const Vector& middle, double half, int part) {
  return {middle.x + ((part & 1) != 0 ? half : -half), middle.y + ((part & 2) != 0 ? half : -half),
          middle.z + ((part & 4) != 0 ? half : -half)};
}

void insert(Node*& at, Body* body, const Vector& middle, double half, int depth) {
  if (at == nullptr) at = make<Leaf>(true);
  if (at->leaf) {
    auto* leaf = static_cast<Leaf*>(at);
    if (leaf->count < 4) {
      leaf->bodies[leaf->count++] = body;
      return;
    }
    if (depth > 60) return;  // bodies in one place: the tree ends here
    auto* cell = make<Cell>(false);
    at = cell;
    for (Body* old : leaf->bodies) insert(at, old, middle, half, depth);
    delete leaf;
  }
  auto* cell = static_cast<Cell*>(at);
  const int part = octant(body->place, middle);
  insert(cell->child[part], body, middle_of(middle, half / 2, part), half / 2, depth + 1);
}

double summarise(Node* node, Vector& middle) {
  Vector sum;
  double mass = 0;
  auto add = [&](const Vector& place, double weight) {
    sum = {sum.x + place.x * weight, sum.y + place.y * weight, sum.z + place.z * weight};
    mass += weight;
  };
  if (node->leaf) {
    auto* leaf = static_cast<Leaf*>(node);
    for (int i = 0; i < leaf->count; ++i) add(leaf->bodies[i]->place, leaf->bodies[i]->mass);
  } else {
    for (Node* child : static_cast<Cell*>(node)->child) {
      if (child == nullptr) continue;
      Vector place;
      const double weight = summarise(child, place);
      add(place, weight);
    }
  }
  middle = {sum.x / mass, sum.y / mass, sum.z / mass};
  if (!node->leaf) {
    static_cast<Cell*>(node)->middle = middle;
    static_cast<Cell*>(node)->mass = mass;
  }
  return mass;
}

void pull(Body& body, const Vector& place, double mass) {
  const Vector d{place.x - body.place.x, place.y - body.place.y, place.z - body.place.z};
  const double square = d.x * d.x + d.y * d.y + d.z * d.z + 1e-4;
  const double strength = mass / (square * std::sqrt(square));
  body.force.x += d.x * strength;
  body.force.y += d.y * strength;
  body.force.z += d.z * strength;
}

void attract(Body& body, const Node* node, double size) {
  if (node->leaf) {
    const auto* leaf = static_cast<const Leaf*>(node);
    for (int i = 0; i < leaf->count; ++i) {
      if (leaf->bodies[i] != &body) pull(body, leaf->bodies[i]->place, leaf->bodies[i]->mass);
    }
    return;
  }
  const auto* cell = static_cast<const Cell*>(node);
  const double x = cell->middle.x - body.place.x, y = cell->middle.y - body.place.y,
               z = cell->middle.z - body.place.z;
  if (size * size < 1.2 * (x * x + y * y + z * z)) {
    pull(body, cell->middle, cell->mass);
    return;
  }
  for (const Node* child : cell->child) {
    if (child != nullptr) attract(body, child, size / 2);
  }
}

void drop(Node* node) {
  if (node->leaf) {
    delete static_cast<Leaf*>(node);
    return;
  }
  for (Node* child : static_cast<Cell*>(node)->child) {
    if (child != nullptr) drop(child);
  }
  delete static_cast<Cell*>(node);
}

}  // namespace

int main(int argc, char** argv) {
  const long count = bench::argument(argc, argv, 1, 40000), steps = bench::argument(argc, argv, 2, 8);
  bench::Random random(3);
  auto** bodies = static_cast<Body**>(std::malloc(static_cast<size_t>(count) * sizeof(Body*)));
  auto draw = [&random] { return static_cast<double>(random.below(1000000)) / 1e6 - 0.5; };
  for (long i = 0; i < count; ++i) {
    bodies[i] = new Body();
    bodies[i]->place = {draw(), draw() * draw(), draw()};
    bodies[i]->speed = {draw(), draw(), draw()};
  }
  for (long step = 0; step < steps; ++step) {
    Node* root = nullptr;
    for (long i = 0; i < count; ++i) insert(root, bodies[i], Vector{}, 4, 0);
    Vector middle;
    summarise(root, middle);
    for (long i = 0; i < count; ++i) {
      Body& body = *bodies[i];
      body.force = {};
      attract(body, root, 8);
    }
    for (long i = 0; i < count; ++i) {
      Body& body = *bodies[i];
      const double scale = 1e-3 / static_cast<double>(count);
      body.speed = {body.speed.x + body.force.x * scale, body.speed.y + body.force.y * scale,
                    body.speed.z + body.force.z * scale};
      body.place = {body.place.x + body.speed.x * 1e-3, body.place.y + body.speed.y * 1e-3,
                    body.place.z + body.speed.z * 1e-3};
    }
    drop(root);
  }
  uint64_t sum = 0;
  for (long i = 0; i < count; ++i) {
    uint64_t bits;
    std::memcpy(&bits, &bodies[i]->place.x, sizeof bits);
    sum = bench::mix(sum, bits);
    delete bodies[i];
  }
  std::free(bodies);
  bench::print_checksum("nbody_tree", sum);
}
