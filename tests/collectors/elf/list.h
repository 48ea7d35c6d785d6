/* Inlines, as the kernel's headers have them. */
struct page { unsigned long flags; void *virtual; };
void *kmap_high(struct page *page);
void *local_prot(struct page *page, int prot);
static inline __attribute__((always_inline)) void *kmap(struct page *page)
{
	if (page->flags & 1)
		return page->virtual;
	return kmap_high(page);
}
static inline __attribute__((always_inline)) void *kmap_atomic_prot(struct page *page, int prot)
{
	if (page->flags & 1)
		return page->virtual;
	return local_prot(page, prot);
}
static inline __attribute__((always_inline)) void *kmap_atomic(struct page *page)
{
	return kmap_atomic_prot(page, 7);
}
