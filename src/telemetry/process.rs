//! What the process uses, under the names that every Prometheus client gives it.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::Timestamp;

/// Reads `/proc/self` at each scrape; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    pub(super) started_at: Timestamp,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let start = ConstGauge::new(self.started_at.as_secs());
        start.encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            "When the process was started, since the Unix epoch.",
            None,
            start.metric_type(),
        )?)?;
        if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
            let memory = ConstGauge::new(bytes);
            memory.encode(encoder.encode_descriptor(
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                None,
                memory.metric_type(),
            )?)?;
        }
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            let cpu = ConstCounter::new(seconds);
            cpu.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "User and system time of the process.",
                None,
                cpu.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

/// From proc_pid_status(5), which counts in KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// From proc_pid_stat(5): fields 14 (utime) and 15 (stime). The second field is the program's name in parentheses and may
/// contain anything, so fields are counted from its last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(ticks.checked_mul(TICK_MS)?).as_secs_f64())
}

/// USER_HZ, the kernel's unit towards user space, is 100 per second on every architecture that this program is built for.
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, read, resident_bytes};

    #[test]
    fn a_process_name_cannot_shift_the_fields() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"),
            Some(12 * 1024)
        );
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read() {
        assert!(resident_bytes(&read("status").unwrap()).unwrap() > 0);
        assert!(cpu_seconds(&read("stat").unwrap()).is_some());
    }
}
