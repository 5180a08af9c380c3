/*
 * Deep and frequent calls: Fibonacci by recursion, then a binary search tree built and summed recursively.
 * Usage: fib-tree [N] [KEYS]. It checks both against closed forms that need no recursion.
 */
#include <stdio.h>
#include <stdlib.h>

struct node {
  struct node *left, *right;
  unsigned key;
};

static long fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static struct node *insert(struct node *tree, unsigned key) {
  if (tree == NULL) {
    tree = calloc(1, sizeof *tree);
    if (tree == NULL) exit(1);
    tree->key = key;
  } else if (key < tree->key) {
    tree->left = insert(tree->left, key);
  } else {
    tree->right = insert(tree->right, key);
  }
  return tree;
}

static unsigned long sum(const struct node *tree) {
  return tree == NULL ? 0 : sum(tree->left) + tree->key + sum(tree->right);
}

static int depth(const struct node *tree) {
  if (tree == NULL) return 0;
  int left = depth(tree->left), right = depth(tree->right);
  return 1 + (left > right ? left : right);
}

static int ascending(const struct node *tree, unsigned *last) {
  if (tree == NULL) return 1;
  if (!ascending(tree->left, last) || tree->key < *last) return 0;
  *last = tree->key;
  return ascending(tree->right, last);
}

int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 27;
  int keys = argc > 2 ? atoi(argv[2]) : 100000;
  long before = 0, expected = 1;
  for (int i = 1; i < n; i++) {
    long next = before + expected;
    before = expected;
    expected = next;
  }
  long result = fibonacci(n);
  printf("fibonacci(%d) = %ld\n", n, result);

  struct node *tree = NULL;
  unsigned state = 1, last = 0;
  unsigned long total = 0;
  for (int i = 0; i < keys; i++) {
    state = state * 1103515245 + 12345;
    tree = insert(tree, state >> 8);
    total += state >> 8;
  }
  unsigned long summed = sum(tree);
  int sorted = ascending(tree, &last);
  printf("%d keys, depth %d, sum %lu\n", keys, depth(tree), summed);
  int right = result == expected && summed == total && sorted;
  printf("fib-tree: %s\n", right ? "RIGHT" : "WRONG");
  return right ? 0 : 1;
}
