//! The prober on a simulated wire: no test sleeps.

use proptest::prelude::*;

use super::*;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn target(index: u32, link_mtu: u32) -> Target {
    Target { interface: index.try_into().unwrap(), mac: None, link_mtu, gateway: GATEWAY, neighbour: true }
}

/// A gateway on a simulated wire: what it answers, after how long.
struct Wire {
    prober: Prober,
    now: Duration,
    seed: u64,
    sent: Vec<(Duration, Transmit)>,
}

impl Wire {
    fn new(targets: Vec<Target>) -> Self {
        let mut wire =
            Self { prober: Prober::new(Plan::default()), now: Duration::ZERO, seed: 1, sent: Vec::new() };
        assert!(wire.follow(targets).is_empty());
        wire
    }

    fn follow(&mut self, targets: Vec<Target>) -> Vec<(IfIndex, IpAddr)> {
        self.prober.follow(targets, self.now, &mut random(&mut self.seed))
    }

    /// Lets time pass; answers after 3 ms what `answers` says.
    fn run(&mut self, time: Duration, answers: impl Fn(&Transmit) -> bool) {
        let end = self.now + time;
        while let Some(next) = self.prober.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            while let Some(transmit) = self.prober.poll(self.now, &mut random(&mut self.seed)) {
                self.sent.push((self.now, transmit.clone()));
                if answers(&transmit) {
                    self.prober.answer(answer_to(&transmit), self.now + Duration::from_millis(3));
                }
            }
        }
        self.now = end;
    }

    fn shown(&mut self) -> GatewayProbe {
        self.prober.gateways.values_mut().for_each(|gateway| gateway.changed = true);
        self.prober.changed().remove(0)
    }
}

fn random(seed: &mut u64) -> impl FnMut() -> u64 {
    || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 11
    }
}

fn answer_to(transmit: &Transmit) -> Answer {
    let (interface, gateway) = (transmit.target.interface, transmit.target.gateway);
    match transmit.request {
        Request::LinkLayer { .. } => Answer::LinkLayer { interface, gateway, mac: Some(Mac([2; 6])) },
        Request::Echo | Request::Sized(_) => Answer::Echo { interface, gateway, token: transmit.token },
    }
}

#[test]
fn a_live_gateway_is_probed_about_once_a_second_and_all_answers_count() {
    let mut wire = Wire::new(vec![target(1, 1500)]);
    wire.run(Duration::from_secs(60), |_| true);
    let shown = wire.shown();
    assert!((48..=60).contains(&shown.echo.sent), "{shown:?}");
    assert_eq!((shown.echo.lost, shown.link_layer.lost), (0, 0));
    assert_eq!(shown.echo.latency.count(), shown.echo.sent);
    assert_eq!(shown.echo.last, Some(Duration::from_millis(3)));
    assert_eq!(shown.path_mtu, Some(1500));
    let broadcast = |(_, one): &(Duration, Transmit)| one.request == Request::LinkLayer { to: None };
    assert_eq!(wire.sent.iter().filter(|one| broadcast(one)).count(), 1, "only the first is a broadcast");
    assert_eq!(wire.sent.iter().filter(|(_, one)| matches!(one.request, Request::Sized(_))).count(), 1);
}

#[test]
fn a_dead_gateway_loses_everything_and_its_path_stays_unknown() {
    let mut wire = Wire::new(vec![target(1, 1500)]);
    wire.run(Duration::from_secs(30), |_| false);
    let shown = wire.shown();
    assert!(shown.echo.lost >= shown.echo.sent - 1 && shown.echo.lost > 20, "{shown:?}");
    assert!(shown.link_layer.lost > 20, "{shown:?}");
    assert_eq!(shown.path_mtu, None);
}

#[test]
fn a_bottleneck_is_found_and_a_smaller_link_is_seen_at_once() {
    let fits = |path: u32| move |one: &Transmit| !matches!(one.request, Request::Sized(size) if size > path);
    let mut wire = Wire::new(vec![target(1, 9000)]);
    wire.run(Duration::from_secs(120), fits(1450));
    assert_eq!(wire.shown().path_mtu, Some(1450));
    wire.follow(vec![target(1, 1400)]);
    wire.run(Duration::from_secs(5), fits(1450));
    assert_eq!(wire.shown().path_mtu, Some(1400));
}

#[test]
fn an_outage_does_not_shrink_the_path() {
    let mut wire = Wire::new(vec![target(1, 1500)]);
    wire.run(Duration::from_secs(10), |_| true);
    wire.run(Duration::from_secs(1500), |_| false);
    wire.run(Duration::from_secs(10), |_| true);
    assert_eq!(wire.shown().path_mtu, Some(1500));
}

#[test]
fn what_cannot_be_sent_is_neither_sent_nor_lost() {
    let mut wire = Wire::new(vec![target(1, 1500)]);
    while let Some(next) = wire.prober.next().filter(|next| *next < Duration::from_secs(10)) {
        while let Some(transmit) = wire.prober.poll(next, &mut random(&mut wire.seed)) {
            wire.prober.refused(&transmit, Refusal::Unable("no CAP_NET_RAW".to_owned()));
        }
    }
    let shown = wire.shown();
    assert_eq!((shown.echo.sent, shown.echo.lost), (0, 0));
    assert_eq!(shown.echo.unable.as_deref(), Some("no CAP_NET_RAW"));
}

#[test]
fn gateways_that_went_are_told_and_forgotten() {
    let mut wire = Wire::new(vec![target(1, 1500), target(2, 1500)]);
    assert_eq!(wire.follow(vec![target(2, 1500)]), [(1.try_into().unwrap(), GATEWAY)]);
    wire.run(Duration::from_secs(3), |one| {
        assert_eq!(one.target.interface, 2.try_into().unwrap());
        true
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn never_exceeds_its_rates_and_every_probe_is_accounted_for(
        gateways in 1_u32..=64,
        seed in any::<u64>(),
        answered in any::<u64>(),
    ) {
        let mut wire = Wire::new((1..=gateways).map(|index| target(index, 1500)).collect());
        wire.seed = seed;
        wire.run(Duration::from_secs(20), |one| answered >> (one.token % 64) & 1 == 1);
        let plan = Plan::default();
        for crowd in wire.sent.windows(plan.burst as usize + 1) {
            prop_assert!(crowd[plan.burst as usize].0 >= crowd[0].0 + plan.gap);
        }
        let most = Duration::from_secs(20).div_duration_f64(plan.gap) as usize + plan.burst as usize;
        prop_assert!(wire.sent.len() <= most);
        let mut last: BTreeMap<(IfIndex, u8), Duration> = BTreeMap::new();
        for (at, one) in &wire.sent {
            let kind = match one.request { Request::LinkLayer { .. } => 0, Request::Echo => 1, Request::Sized(_) => 2 };
            if let Some(before) = last.insert((one.target.interface, kind), *at) {
                prop_assert!(*at >= before + plan.every);
            }
        }
        for gateway in wire.prober.gateways.values() {
            for series in &gateway.series {
                let open = u64::from(series.pending.is_some());
                let Probe { sent, lost, latency, .. } = &series.shown;
                prop_assert_eq!(*sent, lost + latency.count() + open);
                prop_assert!(*sent >= 10 || kindless(gateway, series));
            }
        }
    }
}

#[test]
fn probes_of_all_gateways_go_together() {
    let mut wire = Wire::new((1..=4).map(|index| target(index, 1500)).collect());
    wire.run(Duration::from_secs(60), |one| !matches!(one.request, Request::Sized(_)));
    let late = wire
        .sent
        .iter()
        .filter(|(at, one)| *at > Duration::from_secs(30) && !matches!(one.request, Request::Sized(_)));
    let mut instants: Vec<Duration> = late.map(|(at, _)| *at).collect();
    assert!(instants.len() >= 4 * 2 * 20, "each gateway is probed about once a second: {}", instants.len());
    instants.dedup();
    assert!(instants.len() <= 32, "in one go each: {}", instants.len());
}

proptest! {
    #[test]
    fn strange_answers_and_clocks_do_no_harm(
        events in proptest::collection::vec((0_u8..5, any::<u16>(), any::<u64>()), 0..200),
    ) {
        let mut prober = Prober::new(Plan::default());
        let mut seed = 7;
        for (what, number, token) in events {
            let now = Duration::from_millis(token % 100_000);
            let one = target(u32::from(number % 4) + 1, u32::from(number));
            let (interface, gateway) = (one.interface, one.gateway);
            match what {
                0 => drop(prober.follow(vec![one], now, &mut random(&mut seed))),
                1 => {
                    if let Some(transmit) = prober.poll(now, &mut random(&mut seed)) {
                        prober.answer(answer_to(&transmit), now);
                    }
                }
                2 => prober.answer(Answer::Echo { interface, gateway, token }, now),
                3 => prober.answer(Answer::LinkLayer { interface, gateway, mac: None }, now),
                _ => {
                    if let Some(transmit) = prober.poll(now, &mut random(&mut seed)) {
                        prober.refused(&transmit, Refusal::TooBig);
                    }
                }
            }
        }
        for shown in prober.changed() {
            prop_assert!(shown.echo.lost <= shown.echo.sent);
        }
    }
}

/// Sized probes stop once the path is known.
fn kindless(gateway: &Gateway, series: &Series) -> bool {
    std::ptr::eq(series, &gateway.series[Kind::PathMtu as usize])
}
