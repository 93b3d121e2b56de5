//! Named weights behind a `VarBuilder`, made from a seed or taken from a file.

use crate::random::{generator, normal};
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The weights of a model by name, in order of name.
///
/// Candle's own `VarMap` draws from a generator that cannot be seeded on the CPU; here every weight's start depends on the seed and
/// its own name alone, so that one seed always gives one model.
#[derive(Clone)]
pub struct Parameters {
    store: Arc<Mutex<Store>>,
    device: Device,
}

struct Store {
    source: Source,
    tensors: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
    asked: BTreeSet<String>,
}

#[derive(Clone, Copy)]
enum Source {
    /// Weights that are asked for and not there yet are made from this seed, as variables.
    Seed(u64),
    /// Only what is there can be asked for; trainable or not.
    Given,
}

impl Parameters {
    /// Makes, from `seed`, each weight that a model asks for; all are variables that training can change.
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self::with(Source::Seed(seed), BTreeMap::new(), BTreeMap::new(), device)
    }

    /// Fixed weights for inference, moved to `device` as they are asked for. A model that asks for one that is missing or shaped otherwise gets an error with its name.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>, device: &Device) -> Self {
        Self::with(Source::Given, tensors, BTreeMap::new(), device)
    }

    /// Trainable copies of given weights.
    ///
    /// # Errors
    /// When a tensor cannot be copied to `device`.
    pub fn trainable(tensors: &BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for (name, tensor) in tensors {
            variables.insert(
                name.clone(),
                Var::from_tensor(&tensor.to_device(device)?.copy()?)?,
            );
        }
        Ok(Self::with(
            Source::Given,
            BTreeMap::new(),
            variables,
            device,
        ))
    }

    fn with(
        source: Source,
        tensors: BTreeMap<String, Tensor>,
        variables: BTreeMap<String, Var>,
        device: &Device,
    ) -> Self {
        let store = Store {
            source,
            tensors,
            variables,
            asked: BTreeSet::new(),
        };
        Self {
            store: Arc::new(Mutex::new(store)),
            device: device.clone(),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What models are built from.
    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, self.device.clone())
    }

    /// The weights that training changes, by name.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        self.store().variables.clone()
    }

    /// All weights by name, as they are now; they share memory with the variables.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let store = self.store();
        let variables = store
            .variables
            .iter()
            .map(|(name, var)| (name.clone(), var.as_detached_tensor()));
        store
            .tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .chain(variables)
            .collect()
    }

    /// Names that no model has asked for.
    pub fn unused(&self) -> Vec<String> {
        let store = self.store();
        let names = store.tensors.keys().chain(store.variables.keys());
        names
            .filter(|name| !store.asked.contains(*name))
            .cloned()
            .collect()
    }

    /// How many numbers there are in all.
    pub fn count(&self) -> usize {
        self.tensors().values().map(Tensor::elem_count).sum()
    }
}

impl SimpleBackend for Parameters {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        _: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut store = self.store();
        store.asked.insert(name.to_owned());
        let known = store.variables.get(name).map(|var| var.as_tensor().clone());
        let given = match store.tensors.get(name) {
            Some(tensor) => Some(tensor.to_device(&self.device)?),
            None => None,
        };
        if let Some(tensor) = &given {
            // What a model changes in it (a code book) is found again by `tensors`.
            store.tensors.insert(name.to_owned(), tensor.clone());
        }
        let tensor = match (known.or(given), store.source) {
            (Some(tensor), _) => tensor,
            (None, Source::Given) => bail!("weight {name} is missing"),
            (None, Source::Seed(seed)) => {
                let var = Var::from_tensor(&initial(&shape, init, seed, name, device)?)?;
                store.variables.insert(name.to_owned(), var.clone());
                var.as_tensor().clone()
            }
        };
        if tensor.shape() != &shape {
            bail!(
                "weight {name} has shape {:?}, the configuration wants {shape:?}",
                tensor.shape()
            );
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("weight {name} was asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let store = self.store();
        store.tensors.contains_key(name) || store.variables.contains_key(name)
    }
}

fn initial(shape: &Shape, init: Init, seed: u64, name: &str, device: &Device) -> Result<Tensor> {
    // FNV-1a: any fixed function of the name will do to keep the streams apart.
    let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut random = generator(seed, stream);
    let count = shape.elem_count();
    let values: Vec<f32> = match init {
        Init::Const(value) => vec![value as f32; count],
        Init::Randn { mean, stdev } => (0..count)
            .map(|_| mean as f32 + stdev as f32 * normal(&mut random))
            .collect(),
        Init::Uniform { lo, up } => (0..count)
            .map(|_| random.random_range(lo as f32..up as f32))
            .collect(),
        Init::Kaiming { .. } => {
            bail!("weight {name}: only constant, normal and uniform starts are used here")
        }
    };
    Tensor::from_vec(values, shape, device)
}

/// The weight of a linear layer, `[outputs, inputs]`, started from a normal distribution that keeps the size of its input times `gain`.
///
/// # Errors
/// When the weight is missing or shaped otherwise.
pub fn linear_weight(
    builder: &VarBuilder,
    name: &str,
    outputs: usize,
    inputs: usize,
    gain: f64,
) -> Result<Tensor> {
    let init = Init::Randn {
        mean: 0.0,
        stdev: gain / (inputs as f64).sqrt(),
    };
    builder.get_with_hints((outputs, inputs), name, init)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_model_whatever_the_order() -> Result<()> {
        let ask = |seed, names: [&str; 2]| -> Result<BTreeMap<String, Vec<f32>>> {
            let parameters = Parameters::seeded(seed, &Device::Cpu);
            for name in names {
                linear_weight(&parameters.builder(), name, 3, 5, 1.0)?;
            }
            parameters
                .tensors()
                .into_iter()
                .map(|(name, t)| Ok((name, t.flatten_all()?.to_vec1()?)))
                .collect()
        };
        assert_eq!(ask(7, ["a", "b"])?, ask(7, ["b", "a"])?);
        assert_ne!(ask(7, ["a", "b"])?, ask(8, ["a", "b"])?);
        let seven = ask(7, ["a", "b"])?;
        assert_ne!(seven["a"], seven["b"]);
        Ok(())
    }

    #[test]
    fn missing_misshapen_and_unused_weights_are_named() -> Result<()> {
        let tensor = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let tensors = ["a", "b"]
            .map(|name| (name.to_owned(), tensor.clone()))
            .into();
        let parameters = Parameters::from_tensors(tensors, &Device::Cpu);
        let builder = parameters.builder();
        assert!(builder.get((2, 3), "a").is_ok());
        assert!(
            builder
                .get((3, 2), "a")
                .unwrap_err()
                .to_string()
                .contains("weight a has shape")
        );
        assert!(
            builder
                .pp("layer")
                .get((2, 3), "c")
                .unwrap_err()
                .to_string()
                .contains("layer.c is missing")
        );
        assert_eq!(parameters.unused(), ["b"]);
        Ok(())
    }
}
