/*
 * Where restorer and checkpointer meet: a block in the checkpointer's own memory, hence in the image. The restorer finds it by
 * `image.resumeBlock`, fills it, and each restored thread enters `entry` on its own stack, below its signal frame.
 * There the restorer's memory is unmapped, and the thread returns to what the checkpoint signal interrupted.
 */
#pragma once
#include <stdint.h>

#define RESUME_MAGIC 0x656d757365726d69ul /* "imresume" */
#define RESUME_VERSION 1u

struct resume_block {
  uint64_t magic;
  uint32_t version;
  uint32_t generation;     /* of the image it was restored from; 0: never restored */
  uint64_t entry;          /* void entry(uint64_t frame, uint64_t leader) */
  uint64_t image_device;   /* pages mapped from this file are anonymous memory of the program, restored lazily */
  uint64_t image_inode;
  uint64_t restorer_start; /* what the leader unmaps when all threads have left it */
  uint64_t restorer_size;
  uint32_t threads_to_come; /* futex */
  uint32_t reserved;
};
