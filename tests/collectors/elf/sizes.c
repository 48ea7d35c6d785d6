/* What a kernel's sizes are told by: of pkmap_count, and of three types. */
#include "list.h"
typedef struct { unsigned long low, high; } pte_t;
struct kmap_ctrl { int idx; pte_t pteval[17]; };
struct task_struct { long state; struct kmap_ctrl kmap_ctrl; };
enum fixed_addresses { FIX_HOLE, FIX_KMAP_BEGIN = 3, FIX_KMAP_END = FIX_KMAP_BEGIN + 17 * 4 - 1 };
static int pkmap_count[1024];
static enum fixed_addresses last;
void native_set_fixmap(enum fixed_addresses at, int n)
{
	last = at < FIX_KMAP_END ? at : FIX_KMAP_BEGIN;
	pkmap_count[n] = last;
}
int kmap_flush_unused(struct task_struct *task)
{
	int sum = 0;
	for (int i = 0; i < 1024; i++)
		sum += pkmap_count[i] == 1;
	for (int i = 0; i < task->kmap_ctrl.idx; i++)
		sum += task->kmap_ctrl.pteval[i].low & 1;
	return sum;
}
