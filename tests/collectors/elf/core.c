#include "list.h"
static int used;
static __attribute__((noinline)) int take_slot(int n)
{
	for (int i = 0; i < n; i++)
		used = used * 3 + i;
	return used;
}
void *kmap_high(struct page *page)
{
	if (take_slot((int)page->flags) > 7)
		page->flags |= 2;
	return page->virtual;
}
void *local_prot(struct page *page, int prot)
{
	page->flags += take_slot(prot);
	return page->virtual;
}
