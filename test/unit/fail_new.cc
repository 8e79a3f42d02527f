/* For allocation_test: C++'s allocations fail like those of C, for they are calls of malloc here, which is wrapped. */
#include <cstdlib>
#include <new>

void *operator new(std::size_t size)
{
	void *memory = malloc(size > 0 ? size : 1);

	if (!memory)
		throw std::bad_alloc();
	return memory;
}

void *operator new(std::size_t size, const std::nothrow_t &) noexcept
{
	return malloc(size > 0 ? size : 1);
}

void operator delete(void *memory) noexcept
{
	free(memory);
}

void operator delete(void *memory, const std::nothrow_t &) noexcept
{
	free(memory);
}

void operator delete(void *memory, std::size_t) noexcept
{
	free(memory);
}
