use candle_core::{DType, Device, Tensor};
use dynamics::*;
use nn::{AdamW, AdamWConfig, Parameters, Precision, gradients, ops};
use tokenizer::{Tokenizer, TokenizerConfig};
fn report(name: &str, mut step: impl FnMut()) {
    step();
    for precision in [Precision::F32, Precision::Bf16] {
        nn::with_precision(precision, || {
            let start = std::time::Instant::now();
            let ((), times) = nn::profile::profiled(|| {
                for _ in 0..4 {
                    step()
                }
            });
            let total = start.elapsed();
            println!(
                "{name} {precision:?}: {:.0} ms",
                total.as_secs_f64() * 250.0
            );
            let mut sum = 0.0;
            for (k, t) in &times {
                let s = t.time.as_secs_f64();
                sum += s;
                println!(
                    "  {k:<14} {:5.1}% {:7.1} ms {} calls",
                    100.0 * s / total.as_secs_f64(),
                    s * 250.0,
                    t.calls / 4
                );
            }
            println!(
                "  rest           {:5.1}%",
                100.0 - 100.0 * sum / total.as_secs_f64()
            );
        })
    }
}
fn main() {
    nn::tune_allocator();
    unsafe { nn::quiet_candle_threads() };
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let model = Tokenizer::new(&TokenizerConfig::default(), parameters.builder()).unwrap();
    let frames = Tensor::rand(0f32, 1f32, (32, 1, 64, 64, 3), &Device::Cpu).unwrap();
    let v = parameters.variables();
    let mut o = AdamW::new(v.clone(), AdamWConfig::default());
    report("tokenizer", || {
        let l = model.loss(&frames).unwrap().0;
        let g = gradients(&l, &v).unwrap();
        o.step(&g, 1e-5, 1.0).unwrap();
    });
    {
        let parameters = Parameters::seeded(1, &Device::Cpu);
        let mut c = latent_actions::LatentActionConfig::default();
        c.width = 192;
        c.heads = 6;
        c.encoder_layers = 3;
        c.predictor_layers = 4;
        let model = latent_actions::LatentActionModel::new(&c, parameters.builder()).unwrap();
        let frames = Tensor::rand(0f32, 1f32, (32, 3, 64, 64, 3), &Device::Cpu).unwrap();
        let v = parameters.variables();
        let mut o = AdamW::new(v.clone(), AdamWConfig::default());
        let mut r = nn::generator(1, 0);
        report("latent actions", || {
            let l = model.loss(&frames, &mut r).unwrap().loss;
            let g = gradients(&l, &v).unwrap();
            o.step(&g, 1e-5, 1.0).unwrap();
        });
    }
    let c = DynamicsConfig::default();
    let parameters = Parameters::seeded(1, &Device::Cpu);
    let vectors = Tensor::rand(0f32, 1f32, (1000, 4), &Device::Cpu).unwrap();
    let model = Dynamics::new(&c, &vectors, parameters.builder()).unwrap();
    let z = |s: &[usize]| Tensor::zeros(s, DType::U32, &Device::Cpu).unwrap();
    let clip = TrainingClip {
        clean: z(&[6, 8, 64]),
        masked: z(&[6, 8, 64]),
        actions: z(&[6, 7]),
        forecast: Some(Forecast {
            pixels: Tensor::rand(0f32, 1f32, (6, 7, 64, 64, 3), &Device::Cpu).unwrap(),
            latents: Tensor::zeros((6, 7, 64, 4), DType::F32, &Device::Cpu).unwrap(),
        }),
    };
    let codes = z(&[6, 8]);
    let ones = |n: usize| Tensor::ones(n, DType::F32, &Device::Cpu).unwrap();
    let (a, b) = (ones(6 * 8 * 64), ones(48));
    let v = parameters.variables();
    let mut o = AdamW::new(v.clone(), AdamWConfig::default());
    report("dynamics", || {
        let p = model.training_pass(&clip).unwrap();
        let l = (ops::cross_entropy(&p.logits, &clip.clean, &a).unwrap()
            + ops::cross_entropy(&p.prior_logits, &codes, &b).unwrap())
        .unwrap();
        let g = gradients(&l, &v).unwrap();
        o.step(&g, 1e-5, 1.0).unwrap();
    });
}
