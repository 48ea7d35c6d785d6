#include "list.h"
static inline __attribute__((always_inline)) int zap_pte(struct page *page, int n)
{
	int *at = kmap_atomic(page);
	return at[n & 15];
}
static inline __attribute__((always_inline)) int zap_pmd(struct page *page, int n)
{
	int sum = 0;
	for (int i = 0; i < n; i++)
		sum += zap_pte(page + i, i);
	return sum;
}
int unmap_range(struct page *page, int n)
{
	return zap_pmd(page, n) + zap_pmd(page + 4, n - 1);
}
int read_dir(struct page *page)
{
	char *name = kmap(page);
	int sum = 0;
	while (*name)
		sum += *name++;
	return sum;
}
int __attribute__((section(".init.text"))) init_dir(struct page *page)
{
	return read_dir(page) + unmap_range(page, 3);
}
