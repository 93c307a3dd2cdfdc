//! Work that makes more work, shared by several threads until all of it is done.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is still to be done.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    todo: Vec<T>,
    /// Threads that work on something, and may find more.
    at_work: usize,
    /// One of them failed: the others need not go on.
    over: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(first: T) -> Self {
        let state = State { todo: vec![first], at_work: 0, over: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Works until nothing is left and nobody can find more, or until somebody failed.
    pub(super) fn work<E>(&self, mut act: impl FnMut(T) -> Result<Vec<T>, E>) -> Result<(), E> {
        let _guard = Guard(self);
        while let Some(one) = self.next() {
            let outcome = act(one);
            let mut state = self.lock();
            state.at_work -= 1;
            match outcome {
                Ok(more) => state.todo.extend(more),
                Err(error) => {
                    state.over = true;
                    self.changed.notify_all();
                    return Err(error);
                }
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.over || (state.todo.is_empty() && state.at_work == 0) {
                return None;
            }
            if let Some(one) = state.todo.pop() {
                state.at_work += 1;
                return Some(one);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets nobody wait for a thread that panicked in the middle of its work.
struct Guard<'a, T>(&'a Queue<T>);

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().over = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn threads(queue: &Queue<u32>, act: impl Fn(u32) -> Result<Vec<u32>, u32> + Sync) -> Vec<u32> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| queue.work(&act))).collect();
            workers.into_iter().filter_map(|worker| worker.join().unwrap().err()).collect()
        })
    }

    #[test]
    fn all_that_is_found_is_done_once() {
        let (queue, done) = (Queue::new(10), AtomicU32::new(0));
        let failed = threads(&queue, |number| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(vec![number.saturating_sub(1); if number > 0 { 2 } else { 0 }])
        });
        assert_eq!((failed.len(), done.into_inner()), (0, (1 << 11) - 1));
    }

    #[test]
    fn a_failure_ends_all() {
        let queue = Queue::new(1);
        let failed = threads(&queue, |number| match number {
            100 => Err(number),
            number => Ok(vec![number + 1]),
        });
        assert_eq!(failed, [100]);
    }
}
